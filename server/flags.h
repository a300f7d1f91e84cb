// The flags of nabla-server and what they say.
#ifndef NABLA_SERVER_FLAGS_H_
#define NABLA_SERVER_FLAGS_H_

#include "server/program.h"

namespace nabla {

// Whose config file is a ServerConfig.
const Program& ServerProgram();

}  // namespace nabla

#endif  // NABLA_SERVER_FLAGS_H_
