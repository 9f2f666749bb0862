if ! "${PYTHON:-python}" -c 'import toehold' 2>/dev/null && [ -z "${TOEHOLD_VERIFIER:-}" ]; then
  # No wheel and no server was named: one beside the trainer, ended with it. It answers anyone who reaches it, so
  # other machines only get to it where TOEHOLD_HOST says by which address of this one.
  address=${TOEHOLD_HOST:-127.0.0.1}:${TOEHOLD_PORT:-8643}
  "${TOEHOLD:-toehold}" verify --serve "$address" &
  verifier=$!
  trap 'kill $verifier 2>/dev/null || true' EXIT
  export TOEHOLD_VERIFIER="http://$address"
fi
