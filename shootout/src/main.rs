//! `shootout`: ringlane and its rivals at the same work, on this machine, in one run.
//!
//! A shared machine changes its speed within minutes. So the contestants take turns in rounds, and
//! what counts are the ratios taken within a round, and their median.
//!
//! What a mode measures is its module: it takes the [`Options`] and fills a [`Report`].

mod channels;
mod chart;
mod costs;
mod keeper;
mod machine;
mod plot;
mod report;
mod rounds;
mod store;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;

use keeper::Scratch;
use machine::Machine;
use report::Report;

const USAGE: &str = "\
usage: shootout MODE [--quick] [--json FILE] [--svg DIR] [--page FILE]

modes:
  channels     the channel against iceoryx2, sockets and pipes, and queues in process
  store        the shared store against maps in process, LMDB, redb and Redis
  costs        fences, ways to wait, memory, attaching, and how costs grow

  --quick      fewer contestants and rounds: under a minute
  --json FILE  the figures of all rounds and their ratios, one object a line
  --svg DIR    bar charts and plots
  --page FILE  the tables of `costs`, put where they are in docs/costs.md";

/// What the command line asks for.
pub struct Options {
    mode: Mode,
    quick: bool,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    page: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Mode {
    Channels,
    Store,
    Costs,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mode = match arguments.next().as_deref() {
            Some("channels") => Mode::Channels,
            Some("store") => Mode::Store,
            Some("costs") => Mode::Costs,
            Some(other) => return Err(format!("no mode `{other}`")),
            None => return Err("no mode".to_owned()),
        };
        let mut options = Self {
            mode,
            quick: false,
            json: None,
            svg: None,
            page: None,
        };
        while let Some(argument) = arguments.next() {
            let mut path = || {
                let path = arguments.next().map(PathBuf::from);
                path.ok_or(format!("`{argument}` of what?"))
            };
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = Some(path()?),
                "--svg" => options.svg = Some(path()?),
                "--page" => options.page = Some(path()?),
                other => return Err(format!("no option `{other}`")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    channels::serve_if_peer();
    costs::serve_if_end();
    costs::be_child_if_told();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match Scratch::of_worker() {
        Some(scratch) => work(&options, &scratch),
        None => keeper::keep(),
    }
}

/// The worker's life: all that is measured.
fn work(options: &Options, scratch: &Scratch) -> ExitCode {
    let mut report = Report::new(Machine::prepare());
    print!("{}", report.machine);
    match options.mode {
        Mode::Channels => channels::run(options.quick, &mut report),
        Mode::Store => store::run(options.quick, scratch, &mut report),
        Mode::Costs => costs::run(options.quick, &mut report),
    }
    let written = [
        options.json.as_ref().map(|file| report.write_json(file)),
        options
            .svg
            .as_ref()
            .map(|dir| chart::write_all(&report, dir)),
        options
            .svg
            .as_ref()
            .map(|dir| plot::write_all(&report, dir)),
        options
            .page
            .as_ref()
            .map(|page| report.costs.publish(&report.machine.line(), page)),
    ];
    for outcome in written.into_iter().flatten() {
        if let Err(why) = outcome {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
