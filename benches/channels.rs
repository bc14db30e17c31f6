//! `cargo bench --bench channels`: round trips and streams between two processes, each contestant
//! at each size, by criterion. For how they compare see the bench `ratios`: here each contestant
//! has its own stretch of time, and a shared machine is not the same from one to the next.

mod baseline;

use std::time::Duration;

use baseline::{Entry, Machine, Pair, Work};
use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    baseline::serve_if_child();
    let machine = Machine::prepare();
    let mut criterion = quick().configure_from_args();
    for work in Work::ALL {
        bench(&mut criterion, &machine, work);
    }
    criterion.final_summary();
}

/// Short settings, for there are 33 benchmarks; arguments override them.
fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .nresamples(5_000)
        .without_plots()
}

fn bench(criterion: &mut Criterion, machine: &Machine, work: Work) {
    let mut group = criterion.benchmark_group(work.name());
    for bytes in work.sizes() {
        group.throughput(Throughput::ElementsAndBytes {
            elements: 1,
            bytes: bytes as u64,
        });
        for entry in Entry::all(work, bytes) {
            // Started by the first call, so that a filtered-out benchmark starts no child.
            let mut pair = None;
            group.bench_function(
                BenchmarkId::new(entry.contestant.name(), bytes),
                |bencher| {
                    let pair = pair.get_or_insert_with(|| Pair::start(entry, machine));
                    bencher.iter_custom(|messages| pair.time(messages));
                },
            );
        }
    }
    group.finish();
}
