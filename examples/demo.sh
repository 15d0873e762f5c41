#!/usr/bin/env bash
# Train an agent on Pong from its pixels, evaluate it, record it: `make demo`, or
#   examples/demo.sh [MINUTES] [any option of `playfield train`]
set -uo pipefail
# Job control gives each command a process group of its own, so Ctrl-C reaches the training, which
# saves and ends, and not this script, which goes on with what was learnt.
set -m

minutes=${1:-10}
shift || true
run=demo-$(date +%Y%m%d-%H%M%S)
runs=${PLAYFIELD_RUNS:-runs}

echo "Training PPO on Pong for $minutes minutes. Ctrl-C ends it early and keeps what was learnt."
playfield train ppo --preset ppo-fast --minutes "$minutes" --run "$run" "$@"
status=$?
# 130: interrupted. Anything else went wrong and has said so.
if [[ $status != 0 && $status != 130 ]]; then exit "$status"; fi

set -e
echo
echo "Evaluating on whole games."
playfield eval "$run" --episodes 3
mkdir -p "$runs/$run/videos"
playfield watch "$run" --seconds 120 --video "$runs/$run/videos/demo.mp4"
cat <<END

  the run        $runs/$run
  the video      $runs/$run/videos/demo.mp4
  the curves     .venv/bin/playfield tensorboard
  learn on       .venv/bin/playfield resume $run --minutes 60
END
