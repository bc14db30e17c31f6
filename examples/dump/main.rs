//! Shows every domain of this user: who runs, what the channels hold, and what is wrong. It only
//! reads, so it can be run at any time, beside living processes and dead ones. With `--clean` it
//! removes what the dead left.
//!
//! ```text
//! cargo run --release --example dump
//! cargo run --release --example dump -- --domain hello --hex 32 --watch
//! cargo run --release --example dump -- --check
//! ```

mod check;
mod table;

use ringlane::inspect::{Snapshot, SnapshotOptions};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
usage: dump [--domain NAME] [--json] [--hex N] [--watch [SECONDS]]
       dump --check [--domain NAME] [--json] [--watch [SECONDS]]
       dump --clean [--domain NAME]

  --domain NAME      only this domain
  --json             as JSON, one document a line
  --hex N            with the first N bytes of undelivered messages, and of values in a store that
                     are of no type known here
  --watch [SECONDS]  again and again, every second if not said otherwise; Ctrl-C ends it
  --check            what is wrong, on this machine and in the domains, and what can be done
  --clean            removes the domains that --check warns of because nobody lives in them, with
                     all UNDELIVERED MESSAGES AND STORES in them; one that is named also if nobody
                     died in it
  --help             this text

exit status: 0; 1 if something failed; 2 for wrong arguments; 3 if --check found anything but notes
";

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    // What is no text is no argument that there is, and no name of a domain.
    let arguments: Vec<_> = arguments.map(|a| a.to_string_lossy().into()).collect();
    ExitCode::from(run(&arguments, &mut io::stdout().lock()))
}

/// The whole program but for where it writes. Gives its exit status, as the help says.
pub fn run(arguments: &[String], out: &mut dyn Write) -> u8 {
    match Options::parse(arguments) {
        Ok(Some(options)) => show(&options, out).unwrap_or_else(|e| output_failed(&e)),
        Ok(None) => write_all(out, HELP).map_or_else(|e| output_failed(&e), |()| 0),
        Err(what) => {
            tell(&format!("{what}\n\n{}", HELP.trim_end()));
            2
        }
    }
}

/// Whoever read our output has seen enough, which is no failure. All else is.
fn output_failed(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return 0;
    }
    tell(&format!("cannot write: {error}"));
    1
}

/// Says it on stderr if anybody listens there: `eprintln` panics if nobody does, and the exit status
/// would be another one.
fn tell(what: &str) {
    let _ = writeln!(io::stderr(), "dump: {what}");
}

#[derive(Default)]
struct Options {
    domain: Option<String>,
    json: bool,
    hex: usize,
    watch: Option<Duration>,
    check: bool,
    clean: bool,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse(arguments: &[String]) -> Result<Option<Options>, String> {
        let mut options = Options::default();
        let mut rest = arguments.iter().map(String::as_str).peekable();
        while let Some(argument) = rest.next() {
            match argument {
                "--help" | "-h" => return Ok(None),
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--clean" => options.clean = true,
                "--domain" => {
                    let name = rest.next().ok_or("--domain needs a name")?;
                    options.domain = Some(name.to_string());
                }
                "--hex" => {
                    let count = rest.next().and_then(|n| n.parse().ok());
                    options.hex = count.ok_or("--hex needs a number of bytes")?;
                }
                "--watch" => {
                    let pause = rest.next_if(|next| !next.starts_with("--")).unwrap_or("1");
                    options.watch = Some(seconds(pause)?);
                }
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        let shows = options.json || options.check || options.hex > 0 || options.watch.is_some();
        if options.clean && shows {
            return Err("--clean goes with nothing but --domain".to_string());
        }
        Ok(Some(options))
    }

    fn picture(&self) -> SnapshotOptions {
        let picture = SnapshotOptions::new().payload_bytes(self.hex);
        match &self.domain {
            Some(name) => picture.domain(name),
            None => picture,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let pause = text.parse().ok().map(Duration::try_from_secs_f64);
    match pause {
        Some(Ok(pause)) if !pause.is_zero() => Ok(pause),
        _ => Err(format!(
            "--watch takes a number of seconds above 0, not {text:?}"
        )),
    }
}

fn show(options: &Options, out: &mut dyn Write) -> io::Result<u8> {
    loop {
        let (text, status) = page(options);
        match options.watch {
            // Home, page, then clear what an older page left below: no flicker.
            Some(_) if !options.json => {
                let lines = text.replace('\n', "\x1b[K\n");
                write_all(out, &format!("\x1b[H{lines}\x1b[J"))?;
            }
            _ => write_all(out, &text)?,
        }
        match options.watch {
            Some(pause) => std::thread::sleep(pause),
            None => return Ok(status),
        }
    }
}

fn write_all(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What is to be seen now, and the exit status that goes with it.
fn page(options: &Options) -> (String, u8) {
    let seen = if options.clean {
        check::clean(options)
    } else if options.check {
        check::check(options)
    } else {
        options.picture().take().map(|picture| match options.json {
            true => (json(&picture), 0),
            false => (table::table(&picture), 0),
        })
    };
    match seen {
        Ok(seen) => seen,
        Err(e @ ringlane::Error::BadName { .. }) => complain(options, &e, 2),
        Err(e) => complain(options, &e, 1),
    }
}

/// A domain that is not there may be there the next time.
fn complain(options: &Options, error: &ringlane::Error, status: u8) -> (String, u8) {
    if options.watch.is_some() && !options.json {
        return (format!("{error}\n"), status);
    }
    tell(&error.to_string());
    (String::new(), status)
}

#[derive(serde::Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: u32,
    #[serde(flatten)]
    picture: &'a Snapshot,
}

fn json(picture: &Snapshot) -> String {
    line(&Document {
        schema: "ringlane.dump",
        version: 1,
        picture,
    })
}

/// A document, on a line of its own.
fn line(document: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(document).expect("texts and numbers are JSON");
    text + "\n"
}
