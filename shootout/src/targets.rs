//! What a mode is held to, and whether it is met.

use crate::report::{Report, short};

/// A bound on the median of a ratio.
pub struct Target {
    what: &'static str,
    work: &'static str,
    payload: usize,
    ratio: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
pub enum Bound {
    /// The ratio is at most this.
    AtMost(f64),
    /// The ratio of rates is at least this.
    AtLeast(f64),
    /// So many times faster: the ratio of times is at most its inverse.
    TimesFaster(f64),
}
use Bound::{AtLeast, AtMost, TimesFaster};

pub const fn target(
    what: &'static str,
    work: &'static str,
    payload: usize,
    ratio: &'static str,
    bound: Bound,
) -> Target {
    Target {
        what,
        work,
        payload,
        ratio,
        bound,
    }
}

/// Those whose ratios were taken.
pub fn print(targets: &[Target], report: &Report) {
    for target in targets {
        if let Some(ratio) = report.ratio(target.work, target.payload, target.ratio) {
            target.bound.print(target.what, ratio);
        }
    }
}

impl Bound {
    pub fn print(self, what: &str, ratio: f64) {
        let (value, bound, met) = match self {
            AtMost(bound) => (ratio, format!("<= {bound}"), ratio <= bound),
            AtLeast(bound) => (ratio, format!(">= {bound}"), ratio >= bound),
            TimesFaster(bound) => (1.0 / ratio, format!(">= {bound}"), 1.0 / ratio >= bound),
        };
        line(what, &bound, &short(value), met);
    }
}

pub fn line(what: &str, bound: &str, value: &str, met: bool) {
    let verdict = if met { "met" } else { "MISSED" };
    println!("  {what:<58}{bound:>10}{value:>10}  {verdict}");
}
