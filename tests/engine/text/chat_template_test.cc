#include "engine/text/chat_template.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace nabla {
namespace {

absl::StatusOr<std::string> Render(const std::string& source) {
  absl::StatusOr<ChatTemplate> chat_template = ChatTemplate::Create(source, "<s>", "</s>");
  if (!chat_template.ok()) return chat_template.status();
  const std::vector<ChatMessage> messages = {{"system", " S\n"}, {"user", "Hi \"é\""}, {"assistant", "yo"}};
  return chat_template->Render(messages, /*add_generation_prompt=*/true);
}

std::string ErrorOf(const std::string& source) {
  const absl::StatusOr<std::string> rendered = Render(source);
  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument) << source;
  return std::string(rendered.status().message());
}

struct Case {
  std::string source;
  std::string rendered;  // by Jinja2 in transformers' environment
};

TEST(ChatTemplateTest, RendersAsJinja) {
  const std::vector<Case> cases = {
      {"{{ [1,2.5,'a',none,true,(1,),{'k':\"it's\"}] }}", "[1, 2.5, 'a', None, True, (1,), {'k': \"it's\"}]"},
      {"{{ messages|map(attribute='role')|join(',') }}|{{ messages|selectattr('role','eq','user')|list|l"
       "ength }}",
       "system,user,assistant|1"},
      {"{{ messages|tojson }}|{{ messages[0]|tojson(indent=2) }}|{{ {'a':[],'b':{}}|tojson(indent=2) }}",
       "[{\"role\": \"system\", \"content\": \" S\\n\"}, {\"role\": \"user\", \"content\": \"Hi "
       "\\\"é\\\"\"}, {\"role\": \"assistant\", \"content\": \"yo\"}]|{\n  \"role\": \"system"
       "\",\n  \"content\": \" S\\n\"\n}|{\n  \"a\": [],\n  \"b\": {}\n}"},
      {"{{ 1/2 }} {{ 7//2 }} {{ -7//2 }} {{ -7%3 }} {{ 2**10 }} {{ 1e20 }} {{ 1.0 }} {{ 0.1+0.2 }} {{ 1e"
       "-7 }} {{ 123456789.125 }} {{ 7.5//2 }} {{ -7.5%2 }}",
       "0.5 3 -4 2 1024 1e+20 1.0 0.30000000000000004 1e-07 123456789.125 3.0 0.5"},
      {"{{ 'abc'[::-1] }}{{ 'héllo'[1] }}{{ 'héllo'[-2:] }}{{ [1,2,3,4][1:3] }}{{ [1,2,3][::-2] }}{{ 'ab"
       "c'[10:] }}{{ (1,2,3)[:-1] }}",
       "cbaélo[2, 3][3, 1](1, 2)"},
      {"{{ x|default('d') }}{{ ''|default('e',true) }}{{ none|default('f') }}{{ none|d('g',true) }}", "deNoneg"},
      {"{% for a,b in {'x':1,'y':2}.items() %}{{ a }}={{ b }}{{ ',' if not loop.last }}{% else %}none{% "
       "endfor %}",
       "x=1,y=2"},
      {"{% for i in range(10) if i is odd %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ loop.previtem }"
       "}-{{ loop.nextitem }};{% endfor %}",
       "1/5:1-3;2/5:31-5;3/5:53-7;4/5:75-9;5/5:97-;"},
      {"{% for i in [] %}x{% else %}empty{% endfor %}", "empty"},
      {"{% for i in range(10) %}{% if i==2 %}{% continue %}{% endif %}{% if i==5 %}{% break %}{% endif %"
       "}{{ i }}{% endfor %}",
       "0134"},
      {"{% macro m(a,b=2,c='z') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1,c=3) }}{{ m(1,2,"
       "3) }}{{ m() }}",
       "[12z][123][123][2z]"},
      {"{% set x %}  blk {{ 1 }} {% endset %}[{{ x|trim }}]{% set y | upper %}abc{% endset %}{{ y }}", "[blk 1]ABC"},
      {"{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a"
       " }}",
       "4"},
      {"{% set v=1 %}{% for i in range(3) %}{% set v = v+1 %}{{ v }}{% endfor %}{{ v }}", "2221"},
      {"{% if true %}{% set q = 5 %}{% endif %}{{ q }}", "5"},
      {"{{ 'a' ~ 1 ~ none ~ 2.0 }}{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 'a' in 'cat' }}{{ 3 not in [1,2] }}{{"
       " not true or true }}",
       "a1None2.0TrueFalseTrueTrueTrue"},
      {"{{ 'Hello World foo-bar'|title }}{{ 'hELLO wORLD'|capitalize }}{{ \"they're bill's\".title() }}{"
       "{ 'ab cd'|upper }}",
       "Hello World Foo-BarHello worldThey'Re Bill'SAB CD"},
      {"{{ 'a,b,,c'.split(',') }}{{ ' a  b c '.split() }}{{ 'a-b-c'.split('-',1) }}{{ 'a-b-c'.rsplit('-'"
       ",1) }}{{ ' a  b c '.split(none,1) }}",
       "['a', 'b', '', 'c']['a', 'b', 'c']['a', 'b-c']['a-b', 'c']['a', 'b c ']"},
      {"{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abc'.find('c') }}{{ 'abc'.find('z') }}|{{ 'aXb"
       "X'.replace('X','yy') }}{{ 'aXbX'.replace('X','y',1) }}{{ 'ab'|replace('','-') }}",
       "x|a|2-1|ayybyyaybX-a-b-"},
      {"{{ [3,1,2]|sort }}{{ ['b','A','a']|sort }}{{ ['b','A']|sort(case_sensitive=true) }}{{ [3,1,2]|so"
       "rt(reverse=true) }}{{ [1,1,2]|unique|list }}{{ ['a','A']|unique|list }}",
       "[1, 2, 3]['A', 'a', 'b']['A', 'b'][3, 2, 1][1, 2]['a']"},
      {"{{ [1,2,3]|first }}{{ [1,2,3]|last }}{{ []|first }}{{ 'abc'|first }}{{ [1,2]|sum }}{{ [1,5,2]|ma"
       "x }}{{ [3,5,2]|min }}",
       "13a352"},
      {"{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2,true) }}|{{ 'a\\n\\nb'|indent(2,blank=true) }}|{"
       "{ 'a\\n'|indent }}",
       "a\n    b\n\n    c|  a\n  b|a\n  \n  b|a\n"},
      {"{{ \"esc: \\t\\\"\\\\ \\x41 \\u00e9 \\101\" }}{{ 'a' 'b' }}", "esc: \t\"\\ A é Aab"},
      {"{{ '1'|int + 1 }}{{ '3.7'|int }}{{ 'x'|int(9) }}{{ '2.5'|float }}{{ 3.7|int }}{{ 3.456|round(2) "
       "}}{{ 2.5|round }}{{ 42|string ~ '' }}",
       "2392.533.462.042"},
      {"  {% if true %}  x  {% endif %}  ", "  x    "},
      {"y {#- c -#}  z {# d #}", "yz "},
      {"w", "w"},
      {"{%- if true -%}  a  {%- endif -%}  b", "ab"},
      {"{%+ if true %}plus{% endif +%}", "plus"},
      {"end", "end"},
      {"{% raw %}{{ not }} {% x %}{% endraw %}!", "{{ not }} {% x %}!"},
      {"  {# comment #}", ""},
      {"after{{- ' b' -}}   c", "after bc"},
      {"{{ messages[0].nope is undefined }}{{ messages[99] is defined }}{{ messages[-1].content }}", "TrueFalseyo"},
      {"{{ messages[0]['content'].upper().lower()|length }}", "3"},
      {"{{ none is none }}{{ 1 is number }}{{ 'x' is string }}{{ {} is mapping }}{{ [] is iterable }}{{ "
       "'a' is iterable }}{{ [] is sequence }}{{ 1 is integer }}{{ 1.0 is float }}{{ true is boolean }}{"
       "{ true is true }}{{ false is false }}{{ 1 is true }}{{ true is integer }}{{ 1 is eq 1 }}{{ 2 is "
       "divisibleby 2 }}{{ 3 is in [3] }}{{ 3 is not none }}",
       "TrueTrueTrueTrueTrueTrueTrueTrueTrueTrueTrueTrueFalseFalseTrueTrueTrueTrue"},
      {"{{ dict(a=1,b=2) }}{{ dict([('x',1)]) }}{{ {'a':1}.get('b','c') }}{{ {'a':1}.get('b') }}{{ {'a':"
       "1,'b':2}.keys()|list }}{{ {'b':1,'a':2}|dictsort }}{{ {'a':1}|items|list }}{{ {'a':1}.a }}{{ {'i"
       "tems':5}['items'] }}",
       "{'a': 1, 'b': 2}{'x': 1}cNone['a', 'b'][('a', 2), ('b', 1)][('a', 1)]15"},
      {"{{ [1,2,3]|map('string')|join('-') }}{{ ['a ',' b']|map('trim')|list }}{{ [1,2,3,4]|select('even"
       "')|list }}{{ [1,2]|reject('odd')|list }}{{ [1,0,2]|select|list }}",
       "1-2-3['a', 'b'][2, 4][2][1, 2]"},
      {"{{ 5 if false }}|{{ (5 if false) is undefined }}{{ -3|abs }}{{ 'abc'|reverse }}{{ [1,2]|reverse|"
       "list }}{{ 'x' * 3 }}{{ [1]*2 }}{{ [1]+[2] }}{{ (1,2)+(3,) }}",
       "|True3cba[2, 1]xxx[1, 1][1, 2](1, 2, 3)"},
      {"{% filter upper %}abc{{ 'd' }}{% endfilter %}{% with a=1,b=2 %}{{ a+b }}{% endwith %}{{ a }}", "ABCD3"},
      {"{% generation %}gen{% endgeneration %}", "gen"},
      {"{{ '<a&\"\\'>'|e }}{{ '<b>'|safe }}{{ 'é\"\\\\ /\\u2028 <'|tojson }}{{ 1.5|tojson }}{{ none|tojs"
       "on }}{{ [true]|tojson }}",
       "&lt;a&amp;&#34;&#39;&gt;<b>\"é\\\"\\\\ /\342\200\250 <\"1.5null[true]"},
      {"{{ 'a\\tb' }}{{ ['a\\nb\\'','\"',\"é\\x00\\u200b\"] }}{{ loop is defined }}",
       "a\tb[\"a\\nb'\", '\"', 'é\\x00\\u200b']False"},
      {"{{ messages|length }}{{ messages | map(attribute=\"content\") | list }}{{ 'x'.startswith(('a','x"
       "')) }}{{ 'abc'.endswith('bc') }}",
       "3[' S\\n', 'Hi \"é\"', 'yo']TrueTrue"},
      {"{{ messages[0] == messages[0] }}{{ [1,2]==[1,2] }}{{ (1,2)==[1,2] }}{{ 1==1.0 }}{{ true==1 }}{{ "
       "'a'<'b' }}",
       "TrueTrueFalseTrueTrueTrue"},
      {"{% if messages|selectattr('role','eq','zzz') %}T{% else %}F{% endif %}", "T"},
      {"{{ range(3)|list }}{{ range(1,10,3)|list }}{{ range(5,0,-2)|list }}{{ 'ß'|upper }}{{ 'ǆ'|title }"
       "}{{ 'İ'|lower }}",
       "[0, 1, 2][1, 4, 7][5, 3, 1]SSǄi̇"},
      {"{% for k in messages[0] %}{{ k }},{% endfor %}{% for c in 'hé' %}{{ c }}.{% endfor %}{% for u in"
       " undef %}{% else %}E{% endfor %}",
       "role,content,h.é.E"},
      {"{{ 3.0|tojson }}{{ 10000000000000000.0 }}{{ 1e16 }}{{ 123456789012345680.0 }}{{ 0.0001 }}{{ 0.00"
       "001 }}{{ -0.0 }}",
       "3.01e+161e+161.2345678901234568e+170.00011e-05-0.0"},
      {"{{ loop }}", ""},
      {"{{ messages[0].content.strip('\\n ') }}{{ messages[0].role|upper|lower|title }}{{ (messages|last"
       ").content }}",
       "SSystemyo"},
      {"{%- for message in messages -%}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.cycle('a','b') }}{"
       "{ loop.depth }}{% for z in [1] %}{{ loop.depth }}{% endfor %}{{ loop.changed(message.role) }}{%-"
       " endfor -%}",
       "32a11True21b11True10a11True"},
      {"{{ {'a': 1, 'b': [1,2]}['b'][0] }}{{ {1:2}[1] }}{{ [[1,2],[3,4]]|map('first')|list }}{{ [{'a':{'"
       "b':3}}]|map(attribute='a.b')|list }}{{ messages.0.role }}",
       "12[1, 3][3]system"},
      {"{{ \"%s\" }}{{ 'A'.isupper() }}{{ '12'.isdigit() }}{{ 'a b'.title() }}{{ 'x'.join(['a','b']) }}{"
       "{ 'aXa'.count('a') }}{{ 'a\\nb'.splitlines() }}",
       "%sTrueTrueA Baxb2['a', 'b']"},
      {"{% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"},
      {"  {%+ if true %}a{% endif +%}\nb", "  a\nb"},
      {"a\n  {#- c -#}\n b\n  {# d #}\nc", "ab\nc"},
      {"{{ 'x' }}\n{{ 'y' }}\n\n", "x\ny\n"},
      {"{%- for m in messages %}\n{{ m.role }}\n{%- endfor %}", "systemuserassistant"},
      {"a\015\nb\015c", "a\nb\nc"},
  };
  for (const Case& expected : cases) {
    const absl::StatusOr<std::string> rendered = Render(expected.source);
    ASSERT_TRUE(rendered.ok()) << expected.source << ": " << rendered.status();
    EXPECT_EQ(*rendered, expected.rendered) << expected.source;
  }
}

TEST(ChatTemplateTest, SyntaxErrorsNameLineAndConstruct) {
  EXPECT_EQ(ErrorOf("a\n{% if x %}"),
            "chat template, line 2: expected {% elif %} or {% else %} or {% endif %}, found the end of the template");
  EXPECT_EQ(ErrorOf("{{ a b }}"), "chat template, line 1: expected }}, found 'b'");
  EXPECT_EQ(ErrorOf("\n\n{% for x of y %}"), "chat template, line 3: expected 'in', found 'of'");
  EXPECT_EQ(ErrorOf("{{ 'a }}"), "chat template, line 1: the string is not closed");
  EXPECT_EQ(ErrorOf("{{ (1] }}"), "chat template, line 1: unexpected ']'; expected ')'");
  EXPECT_EQ(ErrorOf("{# a"), "chat template, line 1: the comment is not closed; expected #}");
  EXPECT_EQ(ErrorOf("{{ a"), "chat template, line 1: the tag is not closed; expected }}");
  EXPECT_EQ(ErrorOf("{% raw %}a"), "chat template, line 1: the raw block is not closed; expected {% endraw %}");
  EXPECT_EQ(ErrorOf("{% include 'x' %}"),
            "chat template, line 1: expected a tag (if, for, set, macro, call, filter, with, generation, break or "
            "continue), found 'include'");
  EXPECT_EQ(ErrorOf("{% for m in x recursive %}{% endfor %}"),
            "chat template, line 1: expected %} (recursive loops are not supported), found 'recursive'");
}

TEST(ChatTemplateTest, RuntimeErrorsNameTheLine) {
  EXPECT_EQ(ErrorOf("\n{{ nope.x }}"), "chat template, line 2: 'nope' is undefined");
  EXPECT_EQ(ErrorOf("{{ messages[0].x.y }}"), "chat template, line 1: 'dict object' has no attribute 'x'");
  EXPECT_EQ(ErrorOf("{{ messages[7].x }}"), "chat template, line 1: list object has no element 7");
  EXPECT_EQ(ErrorOf("{{ 'a' + 1 }}"), "chat template, line 1: unsupported operand types for +: 'str' and 'int'");
  EXPECT_EQ(ErrorOf("{{ 1 // 0 }}"), "chat template, line 1: division by zero");
  EXPECT_EQ(ErrorOf("{{ 1 | nope }}"), "chat template, line 1: No filter named 'nope'");
  EXPECT_EQ(ErrorOf("{{ 1 is nope }}"), "chat template, line 1: No test named 'nope'");
  EXPECT_EQ(ErrorOf("{% for x in 5 %}{% endfor %}"), "chat template, line 1: 'int' object is not iterable");
  EXPECT_EQ(ErrorOf("{% set messages.x = 1 %}"),
            "chat template, line 1: cannot assign attribute on non-namespace object");
}

TEST(ChatTemplateTest, RaisedTextIsTheWholeError) {
  EXPECT_EQ(ErrorOf("\n\n{{ raise_exception('Roles must ' ~ 'alternate') }}"), "Roles must alternate");
}

TEST(ChatTemplateTest, RunawayTemplatesEnd) {
  EXPECT_EQ(ErrorOf("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            "chat template, line 1: the template takes more than 268435456 bytes of memory");
  EXPECT_EQ(ErrorOf("{% for a in range(9999) %}{% for b in range(999) %}{{ b }}{% endfor %}{% endfor %}"),
            "chat template, line 1: the template takes more than 2000000 steps");
  EXPECT_EQ(ErrorOf("{{ 'ab' * 1000000000000000000 }}"),
            "chat template, line 1: the template takes more than 268435456 bytes of memory");
  EXPECT_EQ(
      ErrorOf("{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}"),
      "chat template, line 1: the template takes more than 268435456 bytes of memory");
  EXPECT_EQ(ErrorOf("{% set n = namespace(l=[]) %}{% for i in range(999) %}{% set n.l = [n.l] %}{% endfor %}"),
            "chat template, line 1: lists and dicts are nested more than 100 deep");
  EXPECT_EQ(ErrorOf("{{ range(1000000) }}"), "chat template, line 1: range too big; the longest is 100000");
  EXPECT_EQ(ErrorOf("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
            "chat template, line 1: blocks and calls are nested too deep");
  EXPECT_EQ(ErrorOf("{{ " + std::string(1000, '(') + "1" + std::string(1000, ')') + " }}"),
            "chat template, line 1: more than 60 expressions inside one another");
}

TEST(ChatTemplateTest, TokensAndDate) {
  EXPECT_EQ(*Render("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools is none }}"), "<s></s>TrueTrue");
  EXPECT_EQ(Render("{{ strftime_now('%Y-%m-%d') }}")->size(), 10u);
}

}  // namespace
}  // namespace nabla
