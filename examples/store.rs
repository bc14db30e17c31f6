//! A store on the command line: try it in two terminals.
//!
//! ```text
//! cargo run --release --example store -- watch greeting
//! cargo run --release --example store -- set greeting hello
//! cargo run --release --example store -- get greeting
//! cargo run --release --example store -- add visits 1
//! cargo run --release --example store -- list
//! cargo run --release --example store -- remove
//! ```
//!
//! The store is called `example` and lies in the default domain, or with `RINGLANE_DOMAIN` set, in
//! that. It stays until `remove`.

use ringlane::{Error, Result, Store};
use std::process::ExitCode;

const HELP: &str = "\
usage: store set KEY TEXT | get KEY | delete KEY | add KEY NUMBER | watch KEY | list | stats | remove";

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    // With what is no text they are as wrong as none.
    let arguments: Option<Vec<String>> = arguments.map(|a| a.into_string().ok()).collect();
    let arguments = arguments.unwrap_or_default();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
        Err(e) => {
            eprintln!("store: {e}");
            ExitCode::FAILURE
        }
    }
}

/// `false` if the arguments are wrong.
fn run(arguments: &[&str]) -> Result<bool> {
    let open = || Store::open_or_create("example");
    match *arguments {
        ["set", key, text] => println!("version {}", open()?.set(key, text)?),
        ["get", key] => show(&open()?, key)?,
        ["delete", key] => println!("{}", open()?.delete(key)?),
        ["add", key, number] => match number.parse() {
            Ok(number) => println!("it was {}", open()?.fetch_add(key, number)?),
            Err(_) => return Ok(false),
        },
        ["watch", key] => watch(&open()?, key)?,
        ["list"] => {
            let store = open()?;
            for key in store.keys() {
                show(&store, &String::from_utf8_lossy(&key))?;
            }
        }
        ["stats"] => println!("{:#?}", open()?.stats()),
        ["remove"] => Store::options().remove("example")?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A value of one of the two types that there are here.
fn show(store: &Store, key: &str) -> Result<()> {
    match store.get::<str>(key) {
        Ok(Some(text)) => println!("{key} = {text:?}"),
        Ok(None) => println!("{key}: nothing"),
        Err(Error::TypeMismatch { .. }) => {
            println!("{key} = {}", store.get_or::<i64>(key, 0)?);
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

fn watch(store: &Store, key: &str) -> Result<()> {
    let mut watch = store.watch::<str>(key)?;
    loop {
        show(store, key)?;
        match watch.wait() {
            Ok(_) | Err(Error::TypeMismatch { .. }) => {}
            Err(e) => return Err(e),
        }
    }
}
