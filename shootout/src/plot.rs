//! Line plots as SVG, by hand: both axes logarithmic, thin lines at the powers of ten.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::costs::Cost;
use crate::report::Report;
use crate::rounds::{median, spread};

/// Which costs make a picture, against how much there is of what they are the costs of.
pub struct Plot {
    pub file: &'static str,
    pub title: &'static str,
    /// What the axis across says, and the one up.
    pub across: &'static str,
    pub up: &'static str,
    pub lines: &'static [Line],
}

/// A work, and what it is called in the picture.
pub struct Line(pub &'static str, pub &'static str);

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 780.0;
const TOP: f64 = 126.0;
const BOTTOM: f64 = 430.0;
const COLOURS: [&str; 5] = ["#c2410c", "#0369a1", "#4d7c0f", "#7e22ce", "#475569"];

pub fn write_all(report: &Report, directory: &Path) -> Result<(), String> {
    let told = |e| format!("{}: {e}", directory.display());
    for plot in report.plots {
        fs::create_dir_all(directory).map_err(told)?;
        let text = draw(plot, &report.costs.all, &report.machine.line());
        fs::write(directory.join(plot.file), text).map_err(told)?;
    }
    Ok(())
}

/// Of an axis: from where to where, as powers of ten.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| {
            (least.min(v.log10()), most.max(v.log10()))
        });
        Self {
            least,
            most: most.max(least + 1.0),
            from,
            to,
        }
    }

    /// The same, from a whole power to a whole one.
    fn widened(self) -> Self {
        Self {
            least: self.least.floor(),
            most: self.most.ceil(),
            ..self
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - self.least) / (self.most - self.least);
        self.from + share * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.least.ceil() as i32..=self.most.floor() as i32).map(|decade| 10f64.powi(decade))
    }
}

fn draw(plot: &Plot, costs: &[Cost], machine: &str) -> String {
    let of = |line: &Line| -> Vec<&Cost> {
        let work = line.0;
        costs.iter().filter(|cost| cost.work == work).collect()
    };
    let all: Vec<&Cost> = plot.lines.iter().flat_map(of).collect();
    let across = Scale::new(all.iter().map(|cost| cost.at as f64), LEFT, RIGHT);
    let values = all.iter().map(|cost| median(&cost.rounds));
    let up = Scale::new(values, BOTTOM, TOP).widened();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let grey = "fill=\"#555\" font-size=\"11\"";
    text(
        &mut svg,
        (20.0, 28.0),
        "font-size=\"17\" font-weight=\"bold\"",
        plot.title,
    );
    text(&mut svg, (20.0, 46.0), grey, machine);
    let scale = format!(
        "{}; medians, and bars from least to most; both axes logarithmic",
        plot.up
    );
    text(&mut svg, (20.0, 62.0), grey, &scale);
    for value in across.decades() {
        let x = across.at(value);
        rule(&mut svg, (x, TOP), (x, BOTTOM), "#ddd");
        text(
            &mut svg,
            (x, BOTTOM + 16.0),
            "text-anchor=\"middle\"",
            &count(value),
        );
    }
    for value in up.decades() {
        let y = up.at(value);
        rule(&mut svg, (LEFT, y), (RIGHT, y), "#ddd");
        text(
            &mut svg,
            (LEFT - 6.0, y + 4.0),
            "text-anchor=\"end\"",
            &time(value),
        );
    }
    let middle = (LEFT + RIGHT) / 2.0;
    text(
        &mut svg,
        (middle, BOTTOM + 36.0),
        "text-anchor=\"middle\"",
        plot.across,
    );
    for ((i, line), colour) in plot.lines.iter().enumerate().zip(COLOURS) {
        let points: Vec<(f64, f64)> = of(line)
            .iter()
            .map(|cost| {
                let x = across.at(cost.at as f64);
                let (least, most) = spread(&cost.rounds);
                // Where a round was outside of the picture, its edge.
                let [y, low, high] = [median(&cost.rounds), least, most]
                    .map(|value| up.at(value).clamp(TOP, BOTTOM));
                rule(&mut svg, (x, low), (x, high), colour);
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
                );
                (x, y)
            })
            .collect();
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        let (x, y) = (20.0 + 270.0 * (i % 3) as f64, 86.0 + 18.0 * (i / 3) as f64);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"20\" height=\"3\" fill=\"{colour}\"/>",
            y - 5.0
        );
        text(&mut svg, (x + 26.0, y), "", line.1);
    }
    svg.push_str("</svg>\n");
    svg
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>"
    );
}

/// A power of ten.
fn count(value: f64) -> String {
    match value {
        ..1e3 => format!("{value:.0}"),
        ..1e6 => format!("{:.0} thousand", value / 1e3),
        _ => format!("{:.0} million", value / 1e6),
    }
}

/// A power of ten of nanoseconds.
fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos} ns"),
        ..1e6 => format!("{} µs", nanos / 1e3),
        ..1e9 => format!("{} ms", nanos / 1e6),
        _ => format!("{} s", nanos / 1e9),
    }
}
