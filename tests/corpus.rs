//! The cases that fuzzers found worth keeping, again: each went where none before it had gone.
//! `just fuzz TARGET` looks for more.

#[path = "fuzz/cases.rs"]
mod cases;
mod common;

use cases::{Keeper, attach, differential, drain, store_ops};
use common::cases::Cases;
use common::tally;
use std::path::Path;

#[test]
fn what_fuzzers_found_is_right_data_or_a_typed_error() {
    let _keeper = Keeper::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    type Run = fn(&[u8]);
    let targets: [(&str, Run); 4] = [
        ("attach", attach),
        ("drain", drain),
        ("store_ops", store_ops),
        ("differential", differential),
    ];
    let replayed = Cases::new("what fuzzers found");
    for (target, run) in targets {
        let mut count = 0;
        for case in std::fs::read_dir(corpus.join(target)).unwrap() {
            let case = case.unwrap().path();
            println!("{}", case.display());
            let case = std::fs::read(case).unwrap();
            replayed.play(|| run(&case));
            count += 1;
        }
        assert!(count > 0, "nothing is kept of {target}");
        tally("corrupt", "cases that fuzzers kept", count);
    }
}
