# Every check, in the order that fails fastest; nothing is merged without it
ci:
    bash .ci/run

# The tests at their default size
test:
    cargo test

# The tests at the size that every change must pass
test-ci:
    RINGLANE_SCALE=ci cargo test

# The tests against faults, one round after the other, for so many hours; then renews the tables of
# docs/robustness.md
soak hours="2":
    .ci/soak {{hours}}

# Every check, then renews the tables of docs/robustness.md and README.md by what it counted
counts:
    bash .ci/run
    .ci/counts ci target/counts.tsv

# The tests at their default size; then renews the tables of docs/robustness.md
counts-test:
    rm -f target/test.tsv
    RINGLANE_COUNTS=$PWD/target/test.tsv cargo test
    .ci/counts test target/test.tsv

# Looks for new cases by `attach`, `drain`, `store_ops` or `differential` (nightly, and cargo-fuzz);
# `tests/corpus.rs` plays those that are kept again
fuzz target *args:
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{target}} -- -max_len=600 -timeout=30 {{args}}

# The protocols under the model checker
loom:
    RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --lib

# The same and larger scenes in orders drawn at random
shuttle:
    RUSTFLAGS="--cfg loom --cfg shuttle" cargo test --release --lib

# The tests under AddressSanitizer (nightly); rustdoc needs the flag too, else doctests do not link
asan:
    RUSTFLAGS="-Zsanitizer=address" RUSTDOCFLAGS="-Zsanitizer=address" cargo +nightly test --target x86_64-unknown-linux-gnu

# The ring between threads under ThreadSanitizer (nightly)
tsan:
    RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" TSAN_OPTIONS=suppressions=.ci/tsan-suppressions cargo +nightly test --target x86_64-unknown-linux-gnu --lib ring::

# The benchmarks
bench *args:
    cargo bench {{args}}

# Instructions an operation, by callgrind, against those recorded; `--record` writes them down
instructions *args:
    cargo bench --bench instructions -- {{args}}

# `channels` or `store` beside its rivals, or `costs`, in a workspace of its own: takes minutes, and wants a quiet machine
shootout mode *args:
    cargo run --release --manifest-path shootout/Cargo.toml -- {{mode}} {{args}}

# Fences, ways to wait, memory, attaching, and how costs grow: renews docs/costs.md and its plots in a minute
costs *args:
    cargo run --release --manifest-path shootout/Cargo.toml -- costs --svg docs/plots --page docs/costs.md {{args}}

# What the store's lock costs beside the two instructions that it cannot do without
bench-lock:
    cargo test --release --lib lock::tests::cost -- --ignored --nocapture

# The smallest complete program
hello:
    cargo run --release --example hello

# What is in shared memory now: read-only, takes no lock; `--check` tells what is wrong
dump *args:
    cargo run --release --example dump -- {{args}}

# The documentation, with every warning an error
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# Licences, duplicate versions, known vulnerabilities (needs cargo-deny)
deny:
    cargo deny check
