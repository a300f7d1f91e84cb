// The `nabla` command as a whole: command lines, output, errors and exit codes, against a server in the same process.
#include "client/cli/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

using ::testing::HasSubstr;

class CommandTest : public ServerTest {
 protected:
  int Run(const std::vector<std::string>& arguments) {
    in_.str(input_);
    out_.str("");
    error_.str("");
    Console console{.in = &in_,
                    .out = &out_,
                    .error = &error_,
                    .in_is_terminal = in_is_terminal_,
                    .terminal = {.redraw = false},
                    .cancel = &cancel_};
    return RunCommand(arguments, &console);
  }
  std::string out() const { return out_.str(); }
  std::string error() const { return error_.str(); }

  // A server whose every request is answered with "The answer is 14" and one revision, or as `script` says.
  void StartAnswering(FakeEnginePool::Script script = nullptr) {
    if (!script) {
      script = [](FakeRequest* request) {
        request->Emit(CommittedEvent{{1}, "The answer is"});
        request->Emit(RevisionEvent{.position = 1,
                                    .old_text = " 15",
                                    .new_text = " 14",
                                    .reward_before = 0.5,
                                    .reward_after = 1,
                                    .accepted = true});
        request->Emit(CommittedEvent{{2}, " 14"});
        ReasonResult result{.text = "The answer is 14"};
        result.usage.completion_tokens = 2;
        request->Finish(result);
      };
    }
    StartServer({}, std::make_unique<FakeEnginePool>(true, std::move(script)));
    server_flag_ = absl::StrCat("--server=", address());
  }

  std::string input_;
  bool in_is_terminal_ = true;
  CancelHandle cancel_;
  std::string server_flag_;

 private:
  std::istringstream in_;
  std::ostringstream out_;
  std::ostringstream error_;
};

TEST_F(CommandTest, ReasonPrintsTheAnswerAndSumsUpOnStandardError) {
  StartAnswering();
  EXPECT_EQ(Run({"reason", "What?", server_flag_}), 0);
  EXPECT_EQ(out(), "The answer is 14\n");
  EXPECT_EQ(error(), "revised token 1: \" 15\" → \" 14\"   reward 0.5 → 1\n2 tokens · 0 model calls · 0.0 s\n");
}

TEST_F(CommandTest, ReasonReadsTheQuestionFromStandardInput) {
  StartAnswering();
  input_ = "From a pipe?\n";
  EXPECT_EQ(Run({"reason", "-", server_flag_}), 0);
  EXPECT_EQ(pool()->Next()->request().messages[0].content, "From a pipe?");
  in_is_terminal_ = false;
  EXPECT_EQ(Run({"reason", server_flag_}), 0);
  EXPECT_EQ(pool()->Next()->request().messages[0].content, "From a pipe?");
  input_ = "\n";
  EXPECT_EQ(Run({"reason", server_flag_}), 2);
  EXPECT_EQ(error(), "nabla: the question on standard input is empty\n");
}

TEST_F(CommandTest, ReasonRefusesAQuestionThatIsNotUtf8) {
  StartAnswering();
  EXPECT_EQ(Run({"reason", "caf\xe9", server_flag_}), 2);
  EXPECT_EQ(error(), "nabla: the question is not valid UTF-8; convert it, for example with iconv\n");
}

TEST_F(CommandTest, ReasonSendsEveryFlag) {
  StartAnswering();
  EXPECT_EQ(Run({"reason",
                 "q",
                 server_flag_,
                 "--strategy=nabla",
                 "--system=Be brief.",
                 "--max_new_tokens=9",
                 "--seed=5",
                 "--stop=.",
                 "--max_model_calls=100",
                 "--temperature=0.5",
                 "--top_k=4",
                 "--top_p=0.9",
                 "--max_rollouts=3",
                 "--iterations=7",
                 "--learning_rate=0.25",
                 "--parameter=hidden",
                 "--update_postfix",
                 "--likelihood_weight=0.5",
                 "--reward_weight=2",
                 "--max_confidence=0.8",
                 "--min_entropy=0.1",
                 "--min_gradient_norm=0.2",
                 "--screening_candidates=5",
                 "--norejection_sampling",
                 "--continue_without_reward",
                 "--priority=high"}),
            0)
      << error();
  const ReasonRequest& request = pool()->Next()->request();
  ASSERT_EQ(request.messages.size(), 2u);
  EXPECT_EQ(request.messages[0].content, "Be brief.");
  EXPECT_EQ(request.max_new_tokens, 9);
  EXPECT_EQ(request.seed, 5u);
  EXPECT_EQ(request.stop, std::vector<std::string>{"."});
  EXPECT_EQ(request.max_model_calls, 100);
  const auto& options = std::get<NablaOptions>(request.strategy);
  EXPECT_EQ(options.rollout.temperature, 0.5);
  EXPECT_EQ(options.rollout.top_k, 4);
  EXPECT_EQ(options.rollout.top_p, 0.9);
  EXPECT_EQ(options.max_rollouts, 3);
  EXPECT_EQ(options.refinement.iterations, 7);
  EXPECT_EQ(options.refinement.learning_rate, 0.25);
  EXPECT_EQ(options.refinement.parameter, RefinementOptions::Parameter::kHidden);
  EXPECT_TRUE(options.refinement.update_postfix);
  EXPECT_EQ(options.refinement.likelihood_weight, 0.5);
  EXPECT_EQ(options.refinement.reward_weight, 2);
  EXPECT_EQ(options.selectors.max_confidence, 0.8);
  EXPECT_EQ(options.selectors.min_entropy, 0.1);
  EXPECT_EQ(options.selectors.min_gradient_norm, 0.2);
  EXPECT_EQ(options.screening_candidates, 5);
  EXPECT_FALSE(options.rejection_sampling);
  EXPECT_TRUE(options.continue_without_reward);
  EXPECT_EQ(request.priority, Priority::kHigh);
}

TEST_F(CommandTest, JsonIsOneEventALine) {
  StartAnswering();
  EXPECT_EQ(Run({"reason", "q", "--json", server_flag_}), 0);
  EXPECT_EQ(error(), "");
  EXPECT_THAT(out(), HasSubstr("{\"sequence\":\"0\",\"committed\":{\"token_ids\":[1],\"text\":\"The answer is\"}}\n"));
  EXPECT_THAT(
      out(),
      HasSubstr(
          "\"old_text\":\" 15\",\"new_text\":\" "
          "14\",\"accepted\":true,\"gradient_norm\":0,\"guard_gains\":[],\"reward_before\":0.5,\"reward_after\":1}"));
  EXPECT_THAT(out(), HasSubstr("{\"sequence\":\"3\",\"finished\":"));
}

TEST_F(CommandTest, AnInterruptCancelsTheCall) {
  StartAnswering([this](FakeRequest* request) {
    cancel_.Cancel();
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::CancelledError("cancelled"));
  });
  EXPECT_EQ(Run({"reason", "q", server_flag_}), 130);
  EXPECT_EQ(error(), "nabla: interrupted\n");
}

TEST_F(CommandTest, ServerErrorsComeWithTheFix) {
  StartAnswering();
  pool()->RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  EXPECT_EQ(Run({"reason", "q", server_flag_}), 1);
  EXPECT_EQ(error(), "nabla: the queue is full (RESOURCE_EXHAUSTED); try again in a moment\n");
}

TEST_F(CommandTest, AMissingServerIsExplained) {
  for (const char* command : {"reason", "info", "health", "bench"}) {
    std::vector<std::string> arguments = {command, "--server=127.0.0.1:1"};
    if (arguments[0] == "reason") arguments.push_back("q");
    EXPECT_EQ(Run(arguments), 1);
    EXPECT_EQ(
        error(),
        "nabla: no server answers at 127.0.0.1:1; start one with nabla-server --model=FOLDER, or name another with "
        "--server=HOST:PORT\n");
  }
}

TEST_F(CommandTest, WrongCommandLinesSayWhatIsWrong) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"resaon"}, "nabla: unknown command \"resaon\"; expected reason, chat, info, health, eval or bench\n"},
      {{"reason"}, "nabla: no question; write nabla reason \"question\", or - to read it from standard input\n"},
      {{"reason", "what", "now"}, "nabla: unexpected argument \"now\"; put the question in quotes\n"},
      {{"reason", "q", "--stratgy=nabla"}, "nabla: unknown flag --stratgy; see nabla reason --help\n"},
      {{"reason", "q", "--strategy=best"},
       "nabla: --strategy: must be greedy, sample, nabla, best_of_n, self_consistency, beam, tail_guided, "
       "policy_gradient or speculative_candidates, got \"best\"\n"},
      // A field of the request, but not one that holds a strategy.
      {{"reason", "q", "--strategy=seed"},
       "nabla: --strategy: must be greedy, sample, nabla, best_of_n, self_consistency, beam, tail_guided, "
       "policy_gradient or speculative_candidates, got \"seed\"\n"},
      {{"reason", "q", "--strategy=beam", "--states=2"},
       "nabla: --states: has no effect without the strategy tail_guided\n"},
      {{"reason", "q", "--strategy=nabla", "--parameter=x"},
       "nabla: --parameter: must be logits or hidden, got \"x\"\n"},
      {{"reason", "q", "--optimizer=sgd"}, "nabla: --optimizer: must be adam, mirror_descent or sign, got \"sgd\"\n"},
      {{"reason", "q", "--strategy=greedy", "--top_k=2"},
       "nabla: --top_k: has no effect without the strategy sample, best_of_n, self_consistency, beam, "
       "tail_guided, speculative_candidates, nabla or policy_gradient\n"},
      {{"reason", "q", "--strategy=greedy", "--iterations=2"},
       "nabla: --iterations: has no effect without the strategy nabla\n"},
      {{"info", "x"}, "nabla: unexpected argument \"x\"\n"},
      {{"reason", "q", "--strategy=greedy", "--continue_without_reward"},
       "nabla: --continue_without_reward: has no effect without the strategy nabla\n"},
      {{"reason", "q", "--priority=urgent"}, "nabla: --priority: must be low, normal or high, got \"urgent\"\n"},
      {{"chat", "hello"}, "nabla: unexpected argument \"hello\"; ask it in the conversation\n"},
      {{"health", "x"}, "nabla: unexpected argument \"x\"\n"},
      {{"health", "--server="}, "nabla: --server: must not be empty\n"},
      {{"health", "--tls_ca=/nowhere"}, "nabla: --tls_ca: cannot read /nowhere: No such file or directory\n"},
      {{"info", "--server=10.0.0.1:1", "--token_file=token"},
       "nabla: --token_file: a token is not sent in the clear to another machine, 10.0.0.1:1; turn on TLS with --tls "
       "or "
       "--tls_ca\n"},
      {{"bench", "x"}, "nabla: unexpected argument \"x\"\n"},
      {{"bench", "--rate=1", "--concurrency=1"},
       "nabla: --rate: has no effect with --concurrency; give one of the two\n"},
      {{"bench", "--rate=0"}, "nabla: --rate: each must be more than 0, got \"0\"\n"},
      {{"bench", "--concurrency=1,x"}, "nabla: --concurrency: each must be 1 to 65536, got \"x\"\n"},
      {{"bench", "--requests=0"}, "nabla: --requests: must be 1 or more, got 0\n"},
      {{"bench", "--requests=1", "--duration=1s"},
       "nabla: --duration: has no effect with --requests; give one of the two\n"},
      {{"bench", "--duration=0s"}, "nabla: --duration: must be more than 0, got 0\n"},
      {{"bench", "--warmup=-1s"}, "nabla: --warmup: must be 0 or more, got -1s\n"},
      {{"bench", "--slo_ttft=0s"}, "nabla: --slo_ttft: must be more than 0, got 0\n"},
      {{"bench", "--data=/nowhere.jsonl"}, "nabla: --data: cannot read /nowhere.jsonl\n"},
      {{"eval"}, "nabla: --data must name a file of JSON lines, for example --data=problems.jsonl\n"},
      {{"eval", "--data=/nowhere.jsonl"}, "nabla: --data: cannot read /nowhere.jsonl\n"},
      {{"eval", "--data=x", "--strategies=greedy,"},
       "nabla: --strategies: each must be greedy, sample, nabla, best_of_n, self_consistency, beam, "
       "tail_guided, policy_gradient or speculative_candidates, got \"\"\n"},
      {{"eval", "--data=x", "--strategies=greedy:candidates=4"},
       "nabla: --strategies: --candidates: has no effect without the strategy best_of_n, "
       "self_consistency, tail_guided or speculative_candidates\n"},
      {{"eval", "--data=x", "--strategies=best_of_n:candidate=4"},
       "nabla: --strategies: unknown flag --candidate; see nabla eval --help\n"},
      {{"reason", "q", "--strategy=self_consistency", "--weighted"},
       "nabla: --weighted: has no effect without the strategy best_of_n\n"},
      {{"eval", "--data=x", "--concurrency=0"}, "nabla: --concurrency: must be 1 to 1024, got 0\n"},
  };
  for (const auto& [arguments, message] : cases) {
    EXPECT_EQ(Run(arguments), 2) << message;
    EXPECT_EQ(error(), message);
    EXPECT_EQ(out(), "");
  }
}

TEST_F(CommandTest, HelpIsThereForEveryCommand) {
  EXPECT_EQ(Run({"--help"}), 0);
  EXPECT_THAT(out(), HasSubstr("nabla eval --data=FILE.jsonl"));
  for (const char* command : {"reason", "chat", "info", "health", "eval", "bench"}) {
    EXPECT_EQ(Run({command, "--help"}), 0);
    EXPECT_THAT(out(), HasSubstr("--server=TEXT"));
    EXPECT_THAT(out(), HasSubstr("--tls_ca=TEXT"));
    EXPECT_THAT(out(), HasSubstr("--token_file=TEXT"));
  }
  EXPECT_EQ(Run({}), 2);
  EXPECT_THAT(error(), HasSubstr("nabla COMMAND"));
}

TEST_F(CommandTest, InfoPrintsModelsLimitsAndLoad) {
  StartAnswering();
  EXPECT_EQ(Run({"info", server_flag_}), 0);
  EXPECT_THAT(
      out(),
      HasSubstr("model         writer (WriterForCausalLM, 5 parameters, float32 on cpu, up to 128 tokens)\n"
                "reward model  judge (JudgeForSequenceClassification, 7 parameters, float32 on cpu, up to 64 tokens, "
                "classifier)\n"
                "strategies    greedy, sample, self_consistency, best_of_n, beam, tail_guided, policy_gradient, nabla\n"
                "limits        4096 new tokens, 1024 rollouts a request\n"
                "engine        cpu: up, 2 running, 50% of the key/value memory in use\n"
                "load          2 running, 3 waiting, 4 can run at once\n"));
}

TEST_F(CommandTest, EvalComparesStrategiesAndReportsFailures) {
  StartAnswering([](FakeRequest* request) {
    if (request->request().messages[0].content == "lost" &&
        std::holds_alternative<NablaOptions>(request->request().strategy)) {
      request->Finish(absl::InternalError("engine lost"));
      return;
    }
    request->Finish(ReasonResult{.text = "The answer is 14"});
  });
  const std::string data = testing::TempDir() + absl::StrCat("/nabla_eval_", getpid(), ".jsonl");
  std::ofstream(data)
      << "{\"question\": \"2 + 3 × 4\", \"answer\": 14}\n{\"question\": \"lost\", \"answer\": \"#### 14\"}\n"
      << "{\"question\": \"beyond the limit\", \"answer\": 1}\n";
  const std::string json = data + ".out";
  EXPECT_EQ(
      Run({"eval", server_flag_, "--data", data, "--strategies=greedy,nabla", "--limit=2", "--json", json, "--seed=3"}),
      1);
  EXPECT_THAT(out(), HasSubstr("| greedy | 100.0 (100.0 … 100.0) | – | 0 |"));
  EXPECT_THAT(out(), HasSubstr("| nabla | 50.0 (0.0 … 100.0) | -50.0 (-100.0 … +0.0) | 1 |"));
  EXPECT_EQ(error(), "nabla: nabla: 1 failed: engine lost (INTERNAL)\n");
  std::ifstream written(json);
  const std::string text{std::istreambuf_iterator<char>(written), std::istreambuf_iterator<char>()};
  EXPECT_THAT(text, HasSubstr("\"error\": \"INTERNAL: engine lost\""));
  EXPECT_EQ(pool()->Next()->request().seed, 3u);
  unlink(data.c_str());
  unlink(json.c_str());
}

TEST_F(CommandTest, EvalAsksEachStrategyWithItsOwnSettingsAndDoesNotAskAgainForWhatIsRecorded) {
  std::atomic<int> asked = 0;
  StartAnswering([&asked](FakeRequest* request) {
    ++asked;
    request->Finish(ReasonResult{.text = "14"});
  });
  const std::string data = testing::TempDir() + absl::StrCat("/nabla_eval_", getpid(), ".jsonl");
  std::ofstream(data) << "{\"question\": \"2 + 3 × 4\", \"answer\": 14}\n";
  const std::string records = data + ".records";
  const std::vector<std::string> command = {"eval",
                                            server_flag_,
                                            "--data",
                                            data,
                                            "--strategies=best_of_n:candidates=4,self_consistency:candidates=2:top_k=3",
                                            "--records",
                                            records};
  ASSERT_EQ(Run(command), 0) << error();
  const std::string first = out();
  const ReasonRequest best = pool()->Next()->request();
  EXPECT_EQ(std::get<BestOfNOptions>(best.strategy).candidates, 4);
  EXPECT_EQ(best.seed, 1u) << "the number of the question";
  const ReasonRequest vote = pool()->Next()->request();
  EXPECT_EQ(std::get<SelfConsistencyOptions>(vote.strategy).candidates, 2);
  EXPECT_EQ(std::get<SelfConsistencyOptions>(vote.strategy).sampling.top_k, 3);
  ASSERT_EQ(Run(command), 0) << error();
  EXPECT_EQ(out(), first);
  EXPECT_EQ(asked, 2);
  unlink(data.c_str());
  unlink(records.c_str());
}

TEST_F(CommandTest, HealthIsInTheWordsAndTheExitCode) {
  StartAnswering();
  EXPECT_EQ(Run({"health", server_flag_}), 0);
  EXPECT_EQ(out(), "SERVING\n");
  EXPECT_EQ(Run({"health", server_flag_, "--service="}), 0);
  EXPECT_EQ(Run({"health", server_flag_, "--service=nabla.v1.Nobody"}), 1);
  EXPECT_EQ(error(), "nabla: the server has no service \"nabla.v1.Nobody\" (NOT_FOUND)\n");
}

TEST_F(CommandTest, EveryCommandSendsItsTokenByTls) {
  const TestFolder folder;
  const TestAuthority authority("Test authority");
  const IssuedCertificate certificate = authority.Issue("server.test");
  ServerOptions options;
  options.listener.tls = {.certificate_file = folder.Write("server.crt", certificate.certificate),
                          .key_file = folder.Write("server.key", certificate.key)};
  options.auth_tokens_file = folder.Write(
      "tokens", "tokens { name: 'alice' sha256: '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b' }");
  StartServer(options, std::make_unique<FakeEnginePool>(
                           true, [](FakeRequest* request) { request->Finish(ReasonResult{.text = "14"}); }));
  const std::string data = folder.Write("data.jsonl", "{\"question\": \"?\", \"answer\": 14}\n");
  const std::vector<std::string> commands[] = {{"reason", "?"},
                                               {"chat"},
                                               {"info"},
                                               {"health"},
                                               {"eval", "--data", data},
                                               {"bench", "--concurrency=1", "--requests=1", "--warmup=0s"}};
  const std::vector<std::string> secure = {
      absl::StrCat("--server=", address()), absl::StrCat("--tls_ca=", folder.Write("ca.crt", authority.certificate())),
      "--tls_server_name=server.test", absl::StrCat("--token_file=", folder.Write("token", "secret"))};
  in_is_terminal_ = false;
  input_ = "?";
  for (std::vector<std::string> arguments : commands) {
    arguments.insert(arguments.end(), secure.begin(), secure.end());
    EXPECT_EQ(Run(arguments), 0) << arguments[0] << ": " << error();
  }
  EXPECT_EQ(Run({"info", secure[0], secure[1], secure[2]}), 1);
  EXPECT_EQ(error(),
            "nabla: this server needs a token; send it as metadata \"authorization: Bearer TOKEN\" (UNAUTHENTICATED); "
            "name the file of a token with --token_file\n");
  EXPECT_EQ(Run({"info", secure[0], "--tls"}), 1);
  EXPECT_EQ(error(), absl::StrCat("nabla: no server answers at ", address(),
                                  " by TLS; check --server, and that --tls_ca, --tls_server_name and --tls_certificate "
                                  "suit it\n"));
  EXPECT_EQ(Run({"info", secure[0]}), 1);
  EXPECT_EQ(error(), absl::StrCat("nabla: ", address(),
                                  " has closed the connection; if the server uses TLS, give --tls or --tls_ca\n"));
}

TEST_F(CommandTest, ChatSendsWhatWasSaidBefore) {
  StartAnswering();
  in_is_terminal_ = false;
  input_ = "first\n\n  second  \n/reset\nthird";
  EXPECT_EQ(Run({"chat", server_flag_, "--system=Be brief.", "--strategy=greedy"}), 0) << error();
  EXPECT_EQ(out(), "The answer is 14\nThe answer is 14\nThe answer is 14\n");
  const auto contents = [this] {
    std::vector<std::string> list;
    for (const ChatMessage& message : pool()->Next()->request().messages) list.push_back(message.content);
    return list;
  };
  EXPECT_EQ(contents(), (std::vector<std::string>{"Be brief.", "first"}));
  EXPECT_EQ(contents(), (std::vector<std::string>{"Be brief.", "first", "The answer is 14", "second"}));
  EXPECT_EQ(contents(), (std::vector<std::string>{"Be brief.", "third"}));
}

TEST_F(CommandTest, AnInterruptEndsTheAnswerAndNotTheChat) {
  StartAnswering([this](FakeRequest* request) {
    if (request->request().messages.back().content == "long") {
      cancel_.Cancel();
      EXPECT_TRUE(request->AwaitCancelled());
      request->Finish(absl::CancelledError("cancelled"));
    } else {
      request->Finish(ReasonResult{.text = "x"});
    }
  });
  input_ = "long\nshort\n/help\n/what\n";
  EXPECT_EQ(Run({"chat", server_flag_}), 0);
  EXPECT_EQ(out(), "> > > > > \n");
  EXPECT_THAT(error(), HasSubstr("nabla: interrupted\n"));
  EXPECT_THAT(error(), HasSubstr("0 tokens"));
  EXPECT_THAT(error(), HasSubstr("/reset forgets what was said"));
  EXPECT_THAT(error(), HasSubstr("nabla: unknown command /what; expected /reset or /help\n"));
  EXPECT_EQ(pool()->Next()->request().messages.size(), 1u);
  EXPECT_EQ(pool()->Next()->request().messages.size(), 1u);  // the interrupted turn is forgotten
}

TEST_F(CommandTest, AScriptedChatEndsAtTheFirstError) {
  StartAnswering();
  in_is_terminal_ = false;
  pool()->RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  input_ = "first\nsecond\n";
  EXPECT_EQ(Run({"chat", server_flag_}), 1);
  EXPECT_EQ(error(), "nabla: the queue is full (RESOURCE_EXHAUSTED); try again in a moment\n");
}

TEST_F(CommandTest, BenchMeasuresEveryLevel) {
  StartAnswering();
  EXPECT_EQ(Run({"bench", server_flag_, "--concurrency=1,3", "--requests=6", "--warmup=0s", "--strategy=greedy",
                 "--max_new_tokens=9", "--slo_e2e=1h"}),
            0)
      << error();
  EXPECT_EQ(error(), "");
  EXPECT_THAT(out(), HasSubstr("| concurrency 1 | "));
  EXPECT_THAT(out(), HasSubstr("| concurrency 3 | "));
  EXPECT_THAT(out(), HasSubstr(" | 6 | 0 | 0 | – |\n"));
  const auto first = pool()->Next();
  EXPECT_EQ(first->request().max_new_tokens, 9);
  EXPECT_TRUE(std::holds_alternative<GreedyOptions>(first->request().strategy));
}

TEST_F(CommandTest, BenchDrawsQuestionsOfAFileBySeed) {
  StartAnswering();
  const std::string data = testing::TempDir() + absl::StrCat("/nabla_bench_", getpid(), ".jsonl");
  std::ofstream(data) << "{\"question\": \"a\"}\n{\"question\": \"b\"}\n{\"question\": \"c\"}\n";
  const auto questions = [&](const char* seed) {
    EXPECT_EQ(Run({"bench", server_flag_, "--concurrency=1", "--requests=12", "--warmup=0s", "--data", data,
                   "--draw_seed", seed}),
              0);
    std::string asked;
    for (int i = 0; i < 12; ++i) asked += pool()->Next()->request().messages[0].content;
    return asked;
  };
  const std::string first = questions("5");
  EXPECT_EQ(questions("5"), first);
  EXPECT_NE(questions("6"), first);
  unlink(data.c_str());
}

TEST_F(CommandTest, BenchReportsRefusals) {
  StartAnswering();
  pool()->RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  EXPECT_EQ(Run({"bench", server_flag_, "--rate=1000", "--requests=3", "--warmup=0s", "--json=-"}), 1);
  EXPECT_THAT(out(), HasSubstr("\"refused\": 3"));
  EXPECT_THAT(error(), HasSubstr("nabla: rate 1000/s: 3 failed: the queue is full (RESOURCE_EXHAUSTED)\n"
                                 "nabla: rate 1000/s: no request was completed\n"));
}

}  // namespace
}  // namespace nabla
