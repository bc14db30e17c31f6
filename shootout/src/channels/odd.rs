//! Contestants that are not what they were where others measured, or we before: a rival made slow
//! by a mistake here would make ringlane look fast. So each has a figure that it is expected to
//! have, and what is far from it is told, with the reason, as far as one was found.

use crate::report::{Figure, Report, short};
use crate::rounds::median;

/// Beyond this it is odd.
const ODD: f64 = 1.5;

/// A limit whose middle half of rounds is wider than this says little.
const STEADY: f64 = 1.3;

/// What a message takes, of what one takes by the hardware's limit for such a contestant.
struct Expected {
    work: &'static str,
    system: &'static str,
    /// `raw` for those who spin, `futex` for those who sleep.
    limit: (&'static str, &'static str),
    ratio: f64,
    /// Why it may take longer, if that is known.
    slower: Option<&'static str>,
}

const SPUN: (&str, &str) = ("rtt", "raw");
const SLEPT: (&str, &str) = ("sleep_rtt", "futex");

const fn expected(
    work: &'static str,
    system: &'static str,
    limit: (&'static str, &'static str),
    ratio: f64,
    slower: Option<&'static str>,
) -> Expected {
    Expected {
        work,
        system,
        limit,
        ratio,
        slower,
    }
}

const KERNEL: Option<&str> = Some(
    "it sleeps, which is as slow as kernel and hypervisor are now, and raw is not: see sleep_rtt",
);

const DRIVER: Option<&str> =
    Some("its driver, with no processor of its own here, takes turns with the two sides");

/// Of messages of 8 bytes.
const EXPECTED: &[Expected] = &[
    expected("rtt", "rtrb", SPUN, 1.08, None),
    expected("rtt", "crossbeam", SPUN, 3.0, None),
    expected("rtt", "iceoryx2", SPUN, 7.05, None),
    expected("rtt", "tachyon", SPUN, 1.75, None),
    expected("rtt", "aeron", SPUN, 2.5, DRIVER),
    expected("rtt", "ipc-channel", SPUN, 517.0, KERNEL),
    expected("rtt", "python-pipe", SPUN, 478.0, KERNEL),
    expected("stream", "crossbeam", SPUN, 0.55, None),
    expected("stream", "iceoryx2", SPUN, 2.9, None),
    expected("stream", "ipc-channel", SPUN, 16.6, KERNEL),
    expected("sleep_rtt", "pipe", SLEPT, 1.14, None),
    expected("sleep_rtt", "unix", SLEPT, 1.1, None),
    expected("sleep_rtt", "ipc-channel", SLEPT, 1.35, None),
    expected("sleep_rtt", "python-pipe", SLEPT, 1.25, None),
];

pub fn print(report: &Report) {
    for expected in EXPECTED {
        let (limit_work, limit_system) = expected.limit;
        let (Some(taken), Some(limit)) = (
            report.figure(expected.work, 8, expected.system),
            report.figure(limit_work, 8, limit_system),
        ) else {
            continue;
        };
        let ratio = nanos(taken) / nanos(limit);
        if is_odd(ratio, expected.ratio) {
            println!(
                "\nodd: {} at {} takes {} of {limit_system}'s time, {} was expected: {}",
                expected.system,
                expected.work,
                short(ratio),
                short(expected.ratio),
                reason(expected, ratio, limit)
            );
        }
    }
}

/// The time of one message.
fn nanos(figure: &Figure) -> f64 {
    let middle = median(&figure.rounds);
    match figure.unit {
        "ns" => middle,
        _ => 1000.0 / middle,
    }
}

fn reason(expected: &Expected, ratio: f64, limit: &Figure) -> String {
    if ratio < expected.ratio {
        return "faster, which no mistake of ours makes it".to_owned();
    }
    let mut reasons: Vec<String> = expected.slower.map(str::to_owned).into_iter().collect();
    let (low, high) = middle_half(&limit.rounds);
    if high > STEADY * low {
        let (name, low, high) = (limit.system, short(low), short(high));
        reasons.push(format!(
            "{name} was not steady, half of its rounds between {low} and {high} ns"
        ));
    }
    match reasons.is_empty() {
        true => "no reason found, do not trust it".to_owned(),
        false => reasons.join("; "),
    }
}

/// Where the middle half of the rounds lies.
fn middle_half(rounds: &[f64]) -> (f64, f64) {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(f64::total_cmp);
    let quarter = rounds.len() / 4;
    (rounds[quarter], rounds[rounds.len() - 1 - quarter])
}

fn is_odd(ratio: f64, expected: f64) -> bool {
    ratio > ODD * expected || ratio < expected / ODD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_is_what_is_far_off_on_either_side() {
        assert!(!is_odd(7.0, 7.05));
        assert!(is_odd(12.0, 7.05));
        assert!(is_odd(4.0, 7.05));
    }

    #[test]
    fn the_middle_half_leaves_out_what_is_far_off() {
        let rounds = [50.0, 349.0, 80.0, 81.0, 82.0, 83.0, 84.0, 40.0];
        assert_eq!(middle_half(&rounds), (80.0, 83.0));
    }

    #[test]
    fn every_contestant_that_is_expected_exists() {
        for expected in EXPECTED {
            let known = crate::channels::System::ALL.iter();
            let known = known
                .map(|system| system.name())
                .chain(["tachyon", "aeron"]);
            assert!(known.into_iter().any(|name| name == expected.system));
        }
    }
}
