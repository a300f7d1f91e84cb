// Streams one answer of a Nabla server:  nabla-example 127.0.0.1:50051 "What is 2 + 3?"
#include <iostream>

#include "client/reasoner_client.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: nabla-example HOST:PORT QUESTION\n";
    return 2;
  }
  auto client = nabla::ReasonerClient::Create(argv[1]);
  if (!client.ok()) {
    std::cerr << client.status().message() << "\n";
    return 1;
  }
  nabla::v1::ReasonRequest request;
  nabla::v1::Message* message = request.add_messages();
  message->set_role("user");
  message->set_content(argv[2]);
  request.mutable_nabla()->mutable_refinement()->set_learning_rate(0.5);

  const auto finished = (*client)->Reason(request, [](const nabla::v1::ReasonEvent& event) {
    if (event.has_committed()) std::cout << event.committed().text() << std::flush;
    if (event.has_revision()) {
      const nabla::v1::Revision& revision = event.revision();
      std::cout << " [" << revision.old_text() << " → " << revision.new_text()
                << (revision.accepted() ? " accepted] " : " rejected] ");
    }
  });
  if (!finished.ok()) {
    std::cerr << "\n" << finished.status().message() << "\n";
    return 1;
  }
  std::cout << "\nreward " << finished->initial_reward() << " → " << finished->reward() << ", "
            << finished->usage().model_calls() << " model calls\n";
}
