#!/usr/bin/env bash
# Checks what can be checked of deploy/ and the Dockerfile without a container engine. Run it by ./dev deploy-check,
# which provides promtool; NABLA_BIN names the folder of the built programs.
#
#   deploy/check.sh            configuration, rules, dashboard, schemas, lint
#   deploy/check.sh --image    also runs the Dockerfile's steps in bare Debian root file systems (root, mmdebstrap; long)
#
# Not checked here: that Docker, Kubernetes and Grafana take the files; that NVIDIA's libraries of the cuda variant load.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
command -v promtool >/dev/null || { echo "deploy/check.sh: promtool is missing; ./dev deploy-check fetches it" >&2; exit 1; }

tools=build/deploy-tools
if ! [ -e "$tools/installed" ] || ! cmp -s "$tools/installed" deploy/check_requirements.txt; then
  say "installing kubernetes-validate, compose-spec and hadolint into $tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement deploy/check_requirements.txt
  cp deploy/check_requirements.txt "$tools/installed"
fi

say "Prometheus: configuration, rules, their tests"
promtool check config deploy/prometheus/prometheus.yml
promtool test rules deploy/prometheus/rules_test.yml

say "Kubernetes: schemas"
for version in 1.28 1.30 1.33; do
  "$tools/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$version" deploy/kubernetes/*.yaml
done

say "Dockerfile: hadolint"
"$tools/bin/hadolint" Dockerfile

say "dashboard, rules, compose, config map, packages: agreement with the sources"
"$tools/bin/python" deploy/check_files.py

bin=${NABLA_BIN:-build/release/bin}
check_config() {  # program, file
  if [ -x "$bin/$1" ]; then
    say "configuration: $1 --config=$2 --check_config"
    "$bin/$1" "--config=$2" --check_config
  else
    say "configuration: $2 is not checked, $bin holds no $1"
  fi
}
check_config nabla-server deploy/nabla.textproto
check_config nabla-reward-server deploy/reward.textproto

if [ "${1:-}" = --image ]; then
  say "Dockerfile: its steps in bare root file systems"
  python3 deploy/run_dockerfile.py "${@:2}"
fi
say "all is well"
