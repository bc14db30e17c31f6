//! `cargo bench --bench instructions`: how many instructions each operation takes, compared with
//! what is recorded in `benches/instructions.txt`.
//!
//! The program runs itself under callgrind, which counts instructions and not time: the figures are
//! the same on a busy machine. It counts while a function of `operations` runs and at no other
//! time. Another compiler makes other instructions, so counts of another one than the recorded are
//! shown and not judged.
//!
//! - nothing said: prints the counts beside the recorded ones; exits with 1 if one of them changed
//!   by more than its tolerance
//! - `--record`: writes them down, there and into `docs/costs.md`

mod operations;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use operations::{GROUPS, PREFIX, Setting};

/// Says to a process that it is the one that is counted.
const COUNTED: &str = "RINGLANE_BENCH_COUNTED";
/// Each operation is made this many times.
const TIMES: u64 = 8192;

fn main() -> ExitCode {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    // `cargo bench` says `--bench`; the rule is criterion's own.
    let measuring = given("--bench") && !given("--test");
    if std::env::var_os(COUNTED).is_some() {
        perform(TIMES);
        return ExitCode::SUCCESS;
    }
    if !measuring {
        // Each operation checks what it did.
        perform(64);
        return ExitCode::SUCCESS;
    }
    let no_valgrind = Command::new("valgrind").arg("--version").output().is_err();
    if no_valgrind && !given("--record") {
        // Not to end a `cargo bench` of everything.
        println!("skipped: there is no valgrind");
        return ExitCode::SUCCESS;
    }
    let outcome = count().and_then(|counts| match given("--record") {
        true => record(&counts),
        false => compare(&counts),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn perform(times: u64) {
    let mut setting = Setting::new();
    for group in GROUPS {
        (group.run)(&mut setting, times);
    }
}

/// What an operation took.
struct Count {
    name: &'static str,
    instructions: f64,
    /// How far it may be from what is recorded.
    tolerance: f64,
}

/// Runs this program under callgrind, and reads what it wrote.
fn count() -> Result<Vec<Count>, String> {
    let output = std::env::temp_dir().join(format!("ringlane-instructions-{}", std::process::id()));
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let run = Command::new("valgrind")
        .args(["-q", "--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{PREFIX}*"))
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program)
        .env(COUNTED, "")
        .output();
    let text = std::fs::read_to_string(&output);
    // It is there if valgrind came that far.
    let _ = std::fs::remove_file(&output);
    let run = run.map_err(|e| format!("valgrind, which counts, does not start: {e}"))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(format!("under valgrind: {}\n{said}", run.status));
    }
    let text = text.map_err(|e| format!("{}: {e}", output.display()))?;
    let costs = costs(&text);
    let operations = GROUPS
        .iter()
        .flat_map(|group| group.names.iter().map(move |name| (group, *name)));
    operations
        .map(|(group, name)| {
            let cost = costs.get(name);
            let cost = *cost.ok_or(format!("nothing was counted of {name}"))?;
            let instructions = cost as f64 / (TIMES * group.messages) as f64;
            Ok(Count {
                name,
                instructions,
                // Never less than one instruction.
                tolerance: (instructions * group.tolerance).max(1.0),
            })
        })
        .collect()
}

/// What all calls of each counted function took, with all that they called: in callgrind's format
/// the lines below `fn=`, of which those below `calls=` are the whole of a call.
fn costs(text: &str) -> BTreeMap<&str, u64> {
    let mut costs = BTreeMap::new();
    let mut function = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            function = counted(name);
        } else if let (Some(function), true) =
            (function, line.starts_with(|c: char| c.is_ascii_digit()))
        {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
            *costs.entry(function).or_insert(0) += cost.unwrap_or(0);
        }
    }
    costs
}

/// The operation's name in that of its function, whatever stands around it.
fn counted(function: &str) -> Option<&str> {
    let (_, name) = function.split_once(PREFIX)?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    Some(&name[..end.unwrap_or(name.len())])
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// Counts are those of one compiler on one architecture, and a little of valgrind's choice of the
/// C library's functions.
fn made_by() -> String {
    let first_line = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().next().unwrap_or_default().to_owned()
    };
    let (rustc, valgrind) = (first_line("rustc"), first_line("valgrind"));
    format!("{rustc}, {valgrind}, {}", std::env::consts::ARCH)
}

fn record(counts: &[Count]) -> Result<(), String> {
    let mut text = format!(
        "# Instructions an operation; `cargo bench --bench instructions -- --record` writes this.\n\
         # {}\n",
        made_by()
    );
    for count in counts {
        text += &format!("{:<24}{:>10.1}\n", count.name, count.instructions);
    }
    print!("{text}");
    let file = file();
    std::fs::write(&file, &text).map_err(|e| format!("{}: {e}", file.display()))?;
    publish(&text)
}

/// Puts the record into the page, where it says so.
fn publish(text: &str) -> Result<(), String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/costs.md");
    let told = |e| format!("{}: {e}", page.display());
    let mut all = std::fs::read_to_string(&page).map_err(told)?;
    let start = "<!-- instructions -->\n";
    let from = all.find(start).map(|at| at + start.len());
    let place = from.and_then(|from| Some(from..from + all[from..].find("<!-- end -->")?));
    let place = place.ok_or("no place for the instructions in the page")?;
    all.replace_range(place, &format!("\n```text\n{text}```\n\n"));
    std::fs::write(&page, all).map_err(told)
}

fn compare(counts: &[Count]) -> Result<(), String> {
    let file = file();
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let recorded: BTreeMap<&str, f64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, count)| Some((name, count.trim().parse().ok()?)))
        .collect();
    println!("{:<24}{:>10}{:>10}", "instructions", "now", "recorded");
    let mut changed = Vec::new();
    for count in counts {
        let (name, now) = (count.name, count.instructions);
        let Some(before) = recorded.get(name) else {
            println!("{name:<24}{now:>10.1}{:>10}", "-");
            changed.push(format!("{name}: {now:.1}, not recorded"));
            continue;
        };
        println!("{name:<24}{now:>10.1}{before:>10.1}");
        if (now - before).abs() > count.tolerance {
            changed.push(format!(
                "{name}: {before:.1} became {now:.1}, more than {:.1} apart",
                count.tolerance
            ));
        }
    }
    let made_by = made_by();
    if !text.contains(&made_by) {
        println!("recorded by others than {made_by}, so they are not compared");
    } else if !changed.is_empty() {
        return Err(changed.join("\n"));
    }
    Ok(())
}
