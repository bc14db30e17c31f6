//! What must not be done cannot be compiled: using both ways of receiving, sharing or cloning a
//! handle, sending what has no plain bytes.

use std::process::Command;

/// The compiler whose words are expected. Others say the same in other words.
const COMPILER: &str = "rustc 1.95.";

#[test]
#[cfg_attr(
    any(not(feature = "serde"), feature = "bytemuck"),
    ignore = "what the compiler lists depends on the features; the default ones are expected"
)]
fn what_must_not_compile_does_not() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    let version = String::from_utf8(version).unwrap();
    if !version.starts_with(COMPILER) {
        eprintln!("skipped: this is {version}, and the words of {COMPILER} are expected");
        return;
    }
    let cases = trybuild::TestCases::new();
    // Without what is wrong with them, all of them compile.
    cases.pass("tests/compile_fail/allowed.rs");
    for case in [
        "both_ways_of_receiving",
        "clone_a_sender",
        "no_message",
        "plain_with_padding",
        "plain_with_reference",
        "send_during_a_loan",
        "share_a_receiver",
        "two_messages_in_hand",
    ] {
        cases.compile_fail(format!("tests/compile_fail/{case}.rs"));
    }
}
