// The closing words of `nabla reason`: what was revised and what it cost.
//
//   std::cerr << FormatRevision(revision) << "\n" << FormatSummary(finished) << "\n";
//   // revised token 14: " 15" → " 14"   reward -0.10 → 1.40
//   // reward -1.50 → 1.90 · 4 rollouts · 2 accepted, 1 rejected · 340 model calls · 60 gradient steps · 3.2 s
//
// Pure functions; thread-safe.
#ifndef NABLA_CLIENT_CLI_SUMMARY_H_
#define NABLA_CLIENT_CLI_SUMMARY_H_

#include <string>

#include "nabla/v1/reasoner.pb.h"

namespace nabla {

std::string FormatRevision(const v1::Revision& revision);
std::string FormatSummary(const v1::Finished& finished);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_SUMMARY_H_
