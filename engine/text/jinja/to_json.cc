// json.dumps of template values.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/python_text.h"
#include "engine/text/utf8.h"

namespace nabla::jinja {
namespace {

std::string QuoteJson(const std::string& text, bool ensure_ascii) {
  std::string quoted = "\"";
  for (const char32_t c : ToCodePoints(text)) {
    switch (c) {
      case '"':
        quoted.append("\\\"");
        break;
      case '\\':
        quoted.append("\\\\");
        break;
      case '\n':
        quoted.append("\\n");
        break;
      case '\r':
        quoted.append("\\r");
        break;
      case '\t':
        quoted.append("\\t");
        break;
      case '\b':
        quoted.append("\\b");
        break;
      case '\f':
        quoted.append("\\f");
        break;
      default:
        if (c >= 0x20 && (c <= 0x7F || !ensure_ascii)) {
          AppendUtf8(c, quoted);
        } else if (c < 0x10000) {
          quoted.append(absl::StrFormat("\\u%04x", static_cast<uint32_t>(c)));
        } else {
          const uint32_t rest = static_cast<uint32_t>(c) - 0x10000;
          quoted.append(absl::StrFormat("\\u%04x\\u%04x", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF)));
        }
    }
  }
  quoted.push_back('"');
  return quoted;
}

class Writer {
 public:
  explicit Writer(const JsonFormat& format)
      : format_(format),
        item_separator_(!format.item_separator.empty() ? format.item_separator
                        : format.indent < 0            ? ", "
                                                       : ",") {}

  absl::Status Write(const Value& value, int level) {
    if (value.IsNone()) {
      out_.append("null");
    } else if (value.IsBool()) {
      out_.append(value.IsTrue() ? "true" : "false");
    } else if (value.IsString()) {
      out_.append(QuoteJson(value.string(), format_.ensure_ascii));
    } else if (value.IsNumber()) {
      const std::string text = value.Repr();
      out_.append(text == "nan" ? "NaN" : text == "inf" ? "Infinity" : text == "-inf" ? "-Infinity" : text);
    } else if (value.IsSequence() && value.sequence_kind() != SequenceKind::kGenerator) {
      return WriteSequence(value, level);
    } else if (value.IsDict()) {
      return WriteDict(value, level);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("Object of type ", value.TypeName(), " is not JSON serializable"));
    }
    return absl::OkStatus();
  }

  std::string Take() { return std::move(out_); }

 private:
  void BreakLine(int level) {
    if (format_.indent < 0) return;
    out_.push_back('\n');
    out_.append(static_cast<size_t>(format_.indent) * static_cast<size_t>(level), ' ');
  }

  absl::Status WriteSequence(const Value& value, int level) {
    out_.push_back('[');
    for (size_t i = 0; i < value.items().size(); ++i) {
      if (i > 0) out_.append(item_separator_);
      BreakLine(level + 1);
      NABLA_RETURN_IF_ERROR(Write(value.items()[i], level + 1));
    }
    if (!value.items().empty()) BreakLine(level);
    out_.push_back(']');
    return absl::OkStatus();
  }

  absl::Status WriteDict(const Value& value, int level) {
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : value.entries()) entries.push_back(&entry);
    if (format_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
        const absl::StatusOr<int> order = CompareValues(a->first, b->first);
        return order.ok() && *order < 0;
      });
    }
    out_.push_back('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.append(item_separator_);
      BreakLine(level + 1);
      const Value& key = entries[i]->first;
      // Keys that are not strings are written as JSON and quoted.
      Writer key_writer(format_);
      if (!key.IsString()) NABLA_RETURN_IF_ERROR(key_writer.Write(key, 0));
      absl::StrAppend(&out_, QuoteJson(key.IsString() ? key.string() : key_writer.Take(), format_.ensure_ascii),
                      format_.key_separator);
      NABLA_RETURN_IF_ERROR(Write(entries[i]->second, level + 1));
    }
    if (!entries.empty()) BreakLine(level);
    out_.push_back('}');
    return absl::OkStatus();
  }

  const JsonFormat& format_;
  std::string item_separator_;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> ToJson(const Value& value, const JsonFormat& format) {
  Writer writer(format);
  NABLA_RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

}  // namespace nabla::jinja
