"""Streams one answer of a Nabla server. Needs grpcio and grpcio-tools:

    pip install grpcio grpcio-tools
    python client/python/example.py "What is 2 + 3 × 4?" --server 127.0.0.1:50051

The client code is made from proto/nabla/v1/reasoner.proto at run time. To have it as files instead:

    python -m grpc_tools.protoc --proto_path=proto --python_out=. --grpc_python_out=. nabla/v1/reasoner.proto
"""

import argparse
import pathlib
import sys

import grpc

PROTO_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "proto"


def load_api():
    """The modules of messages and stubs, generated in memory."""
    sys.path.insert(0, str(PROTO_FOLDER))
    return grpc.protos_and_services("nabla/v1/reasoner.proto")


def show(event):
    kind = event.WhichOneof("event")
    if kind == "started":
        print(f"[{event.started.model}, {event.started.strategy}, seed {event.started.seed}]", file=sys.stderr)
    elif kind == "committed":
        print(event.committed.text, end="", flush=True)
    elif kind == "revision":
        revision = event.revision
        verdict = "accepted" if revision.accepted else "rejected"
        print(f"\n[{verdict}: {revision.old_text!r} -> {revision.new_text!r}]", file=sys.stderr)
    elif kind == "finished":
        usage = event.finished.usage
        print(f"\n[{usage.completion_tokens} tokens, {usage.model_calls} model calls]", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description="Streams one answer of a Nabla server.")
    parser.add_argument("question")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--timeout", type=float, help="seconds")
    parser.add_argument("--learning_rate", type=float, help="step of the strategy nabla; its default is the paper's")
    arguments = parser.parse_args()

    messages, services = load_api()
    request = messages.ReasonRequest(messages=[messages.Message(role="user", content=arguments.question)])
    if arguments.learning_rate is not None:
        request.nabla.refinement.learning_rate = arguments.learning_rate
    with grpc.insecure_channel(arguments.server) as channel:
        reasoner = services.ReasonerStub(channel)
        try:
            for event in reasoner.Reason(request, timeout=arguments.timeout):
                show(event)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
