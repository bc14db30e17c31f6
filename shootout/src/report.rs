//! The figures of a run: what they are, as a table for people and as lines of JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::chart::Picture;
use crate::costs::Costs;
use crate::machine::Machine;
use crate::plot::Plot;
use crate::rounds::{median, ratios, spread};

/// Whose figures all others are set against.
pub const OURS: &str = "ringlane";

/// What one system reached at one work, one figure a round.
pub struct Figure {
    pub work: &'static str,
    pub payload: usize,
    pub system: &'static str,
    pub unit: &'static str,
    pub rounds: Vec<f64>,
    /// What else was measured in the same rounds.
    pub beside: Vec<(&'static str, Vec<f64>)>,
}

impl Figure {
    /// One of 8-byte values, without rounds yet.
    pub fn small(
        work: &'static str,
        system: &'static str,
        unit: &'static str,
        beside: &[&'static str],
    ) -> Self {
        Self {
            work,
            payload: 8,
            system,
            unit,
            rounds: Vec::new(),
            beside: beside.iter().map(|&name| (name, Vec::new())).collect(),
        }
    }

    /// Takes a round's figure, and what goes beside it.
    pub fn note(&mut self, value: f64, beside: &[f64]) {
        self.rounds.push(value);
        for ((_, rounds), value) in self.beside.iter_mut().zip(beside) {
            rounds.push(*value);
        }
    }
}

/// Two figures of the same rounds, one divided by the other.
struct Ratio {
    work: &'static str,
    payload: usize,
    name: String,
    rounds: Vec<f64>,
}

pub struct Report {
    pub machine: Machine,
    pub figures: Vec<Figure>,
    /// What to draw, as the mode says.
    pub pictures: &'static [Picture],
    pub costs: Costs,
    pub plots: &'static [Plot],
    ratios: Vec<Ratio>,
}

impl Report {
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            figures: Vec::new(),
            pictures: &[],
            costs: Costs::default(),
            plots: &[],
            ratios: Vec::new(),
        }
    }

    /// Takes the figures of one work, prints them, and sets ours against all others.
    pub fn add(&mut self, figures: Vec<Figure>) {
        let Some(first) = figures.first() else {
            return;
        };
        println!("\n{}, {} bytes ({})", first.work, first.payload, first.unit);
        let ours = figures.iter().find(|figure| figure.system == OURS);
        let ours = ours.map(|figure| figure.rounds.clone());
        for figure in figures {
            let ratio = match &ours {
                Some(ours) if figure.system != OURS => Some(ratios(ours, &figure.rounds)),
                _ => None,
            };
            print_figure(&figure, ratio.as_deref());
            if let Some(rounds) = ratio {
                let name = format!("{OURS}/{}", figure.system);
                self.add_ratio(figure.work, figure.payload, name, rounds);
            }
            self.figures.push(figure);
        }
    }

    pub fn add_ratio(
        &mut self,
        work: &'static str,
        payload: usize,
        name: String,
        rounds: Vec<f64>,
    ) {
        self.ratios.push(Ratio {
            work,
            payload,
            name,
            rounds,
        });
    }

    pub fn figure(&self, work: &str, payload: usize, system: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| {
            figure.work == work && figure.payload == payload && figure.system == system
        })
    }

    /// The median of a ratio.
    pub fn ratio(&self, work: &str, payload: usize, name: &str) -> Option<f64> {
        let mut all = self.ratios.iter();
        let found =
            all.find(|ratio| ratio.work == work && ratio.payload == payload && ratio.name == name);
        found.map(|ratio| median(&ratio.rounds))
    }

    pub fn write_json(&self, file: &Path) -> Result<(), String> {
        fs::write(file, self.json()).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// One object a line: the figures, then the ratios.
    fn json(&self) -> String {
        let mut text = String::new();
        for figure in &self.figures {
            let mut fields = vec![
                format!("\"work\":\"{}\"", figure.work),
                format!("\"payload\":{}", figure.payload),
                format!("\"system\":\"{}\"", figure.system),
                format!("\"unit\":\"{}\"", figure.unit),
            ];
            fields.extend(numbers(&figure.rounds));
            for (name, rounds) in &figure.beside {
                fields.push(format!("\"{name}\":{}", list(rounds)));
            }
            let _ = writeln!(text, "{{{}}}", fields.join(","));
        }
        for ratio in &self.ratios {
            let mut fields = vec![
                format!("\"work\":\"{}\"", ratio.work),
                format!("\"payload\":{}", ratio.payload),
                format!("\"ratio\":\"{}\"", ratio.name),
            ];
            fields.extend(numbers(&ratio.rounds));
            let _ = writeln!(text, "{{{}}}", fields.join(","));
        }
        for cost in &self.costs.all {
            let mut fields = vec![
                format!("\"work\":\"{}\"", cost.work),
                format!("\"way\":\"{}\"", cost.way),
                format!("\"at\":{}", cost.at),
                format!("\"unit\":\"{}\"", cost.unit),
            ];
            fields.extend(numbers(&cost.rounds));
            let _ = writeln!(text, "{{{}}}", fields.join(","));
        }
        text
    }
}

fn print_figure(figure: &Figure, ratio: Option<&[f64]>) {
    let (least, most) = spread(&figure.rounds);
    let span = format!("({} - {})", short(least), short(most));
    print!(
        "  {:<18}{:>10} {span:<22}",
        figure.system,
        short(median(&figure.rounds))
    );
    if let Some(ratio) = ratio {
        let (least, most) = spread(ratio);
        print!(
            " {OURS}/this {:>7.4} ({least:.4} - {most:.4})",
            median(ratio)
        );
    }
    println!();
    for (name, rounds) in &figure.beside {
        println!("    {name:<20}{:>10}", short(median(rounds)));
    }
}

/// As many digits as are worth reading.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.4}"),
        0.1..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn numbers(rounds: &[f64]) -> [String; 2] {
    [
        format!("\"rounds\":{}", list(rounds)),
        format!("\"median\":{}", number(median(rounds))),
    ]
}

fn list(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().copied().map(number).collect();
    format!("[{}]", values.join(","))
}

/// Six digits, however small; JSON has no infinity.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let digits = 5 - value.abs().max(1e-9).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 12) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(system: &'static str, unit: &'static str, rounds: &[f64]) -> Figure {
        Figure {
            rounds: rounds.to_vec(),
            ..Figure::small("rtt", system, unit, &[])
        }
    }

    #[test]
    fn json_is_an_object_a_line_for_each_figure_and_each_ratio() {
        let mut report = Report::new(Machine::prepare());
        report.add(vec![
            figure(OURS, "ns", &[100.0, 120.0, 110.0]),
            figure("raw", "ns", &[50.0, 100.0, 100.0]),
        ]);
        let expected = [
            r#"{"work":"rtt","payload":8,"system":"ringlane","unit":"ns","rounds":[100.000,120.000,110.000],"median":110.000}"#,
            r#"{"work":"rtt","payload":8,"system":"raw","unit":"ns","rounds":[50.0000,100.000,100.000],"median":100.000}"#,
            r#"{"work":"rtt","payload":8,"ratio":"ringlane/raw","rounds":[2.00000,1.20000,1.10000],"median":1.20000}"#,
        ];
        assert_eq!(report.json().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_ratio_of_nothing_is_null() {
        let mut report = Report::new(Machine::prepare());
        report.add_ratio("rtt", 8, "a/b".to_owned(), vec![f64::INFINITY]);
        let expected = "{\"work\":\"rtt\",\"payload\":8,\"ratio\":\"a/b\",\"rounds\":[null],\"median\":null}\n";
        assert_eq!(report.json(), expected);
    }
}
