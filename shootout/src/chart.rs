//! Bar charts as SVG, by hand: a group of bars for each work, each with its figure beside it.
//!
//! The bars are logarithmic, since rivals are up to a thousand times apart; thin lines mark the
//! powers of ten.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::report::{Figure, OURS, Report, short};
use crate::rounds::median;

/// Which figures make a picture.
pub struct Picture {
    pub file: &'static str,
    pub title: &'static str,
    pub takes: fn(&Figure) -> bool,
}

const WIDTH: f64 = 840.0;
const LEFT: f64 = 130.0;
const LONGEST: f64 = 580.0;
const BAR: f64 = 18.0;
const HEAD: f64 = 84.0;
/// Above the bars of a group, for its name.
const GROUP: f64 = 34.0;

pub fn write_all(report: &Report, directory: &Path) -> Result<(), String> {
    let told = |e| format!("{}: {e}", directory.display());
    fs::create_dir_all(directory).map_err(told)?;
    for picture in report.pictures {
        let figures = report
            .figures
            .iter()
            .filter(|figure| (picture.takes)(figure));
        let groups = groups(figures);
        if !groups.is_empty() {
            let path = directory.join(picture.file);
            fs::write(&path, draw(picture.title, &report.machine.line(), &groups)).map_err(told)?;
        }
    }
    Ok(())
}

/// The figures of one work, which follow one another.
fn groups<'a>(figures: impl Iterator<Item = &'a Figure>) -> Vec<Vec<&'a Figure>> {
    let mut groups: Vec<Vec<&Figure>> = Vec::new();
    for figure in figures {
        let same = |group: &&mut Vec<&Figure>| {
            (group[0].work, group[0].payload) == (figure.work, figure.payload)
        };
        match groups.last_mut().filter(same) {
            Some(group) => group.push(figure),
            None => groups.push(vec![figure]),
        }
    }
    groups
}

fn draw(title: &str, machine: &str, groups: &[Vec<&Figure>]) -> String {
    let bars: usize = groups.iter().map(Vec::len).sum();
    let height = HEAD + groups.len() as f64 * GROUP + bars as f64 * BAR + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(
        &mut svg,
        (20.0, 28.0),
        "font-size=\"17\" font-weight=\"bold\"",
        title,
    );
    text(
        &mut svg,
        (20.0, 48.0),
        "fill=\"#555\" font-size=\"11\"",
        machine,
    );
    let scale = "medians of interleaved rounds; bars logarithmic, lines at powers of ten";
    text(
        &mut svg,
        (20.0, 64.0),
        "fill=\"#555\" font-size=\"11\"",
        scale,
    );
    let mut y = HEAD;
    for group in groups {
        y = draw_group(&mut svg, y, group);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Draws from `y` on, and gives where it ended.
fn draw_group(svg: &mut String, y: f64, group: &[&Figure]) -> f64 {
    let Figure {
        work,
        payload,
        unit,
        ..
    } = group[0];
    let better = if unit.ends_with("/s") { "more" } else { "less" };
    let name = format!("{work}, {payload} bytes: {unit}, {better} is better");
    text(svg, (20.0, y + 22.0), "font-weight=\"bold\"", &name);
    let values: Vec<f64> = group.iter().map(|figure| median(&figure.rounds)).collect();
    let decades = |value: &f64| value.max(1e-6).log10();
    // One decade below the least, so that the shortest bar can be seen.
    let least = values
        .iter()
        .map(decades)
        .fold(f64::INFINITY, f64::min)
        .floor()
        - 1.0;
    let most = values
        .iter()
        .map(decades)
        .fold(least + 1.0, f64::max)
        .ceil();
    let length = |decade: f64| (decade - least) / (most - least) * LONGEST;
    let (top, bottom) = (y + GROUP - 4.0, y + GROUP + BAR * group.len() as f64);
    for decade in least as i32..=most as i32 {
        let x = LEFT + length(f64::from(decade));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"
        );
    }
    for (i, (figure, value)) in group.iter().zip(&values).enumerate() {
        let y = y + GROUP + BAR * i as f64;
        let (width, ours) = (length(decades(value)), figure.system.starts_with(OURS));
        let colour = if ours { "#c2410c" } else { "#94a3b8" };
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            BAR - 4.0
        );
        text(
            svg,
            (LEFT - 8.0, y + 11.0),
            "text-anchor=\"end\"",
            figure.system,
        );
        text(svg, (LEFT + width + 6.0, y + 11.0), "", &short(*value));
    }
    bottom
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>"
    );
}
