// Reads a message in Protobuf's text format, with errors as compilers write them.
//
//   v1::AuthTokens tokens;
//   NABLA_RETURN_IF_ERROR(ParseTextProto("tokens.textproto", text, &tokens));
//   // INVALID_ARGUMENT "tokens.textproto:3:5: Message type "nabla.v1.AuthTokens" has no field named "token"."
#ifndef NABLA_SERVER_TEXT_PROTO_H_
#define NABLA_SERVER_TEXT_PROTO_H_

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <string>

#include "absl/status/status.h"

namespace nabla {

// `locations`, if given, tells the line and column of every field from then on.
absl::Status ParseTextProto(const std::string& file, const std::string& text, google::protobuf::Message* message,
                            google::protobuf::TextFormat::ParseInfoTree* locations = nullptr);

}  // namespace nabla

#endif  // NABLA_SERVER_TEXT_PROTO_H_
