//! Feeds mutations of the corpus to the targets, and keeps the shortest input of each fault.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mesh_fuzz::mutate::{Random, mutated, shortened};
use mesh_fuzz::{TARGETS, Target};

#[derive(Parser)]
#[command(about = "Feeds mutations of a corpus to what reads the input of strangers")]
struct Args {
    /// The targets; all if none is named.
    targets: Vec<String>,
    /// How many times the short run.
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Another seed gives other mutations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where inputs that show a fault are written.
    #[arg(long, default_value = "target/fuzz")]
    found: PathBuf,
    /// Write each input to `FOUND/current` before it is tried: when the program is killed, that is why.
    #[arg(long)]
    trace: bool,
}

#[expect(clippy::print_stderr, reason = "what was found is for whoever runs it")]
fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = fs::create_dir_all(&args.found) {
        eprintln!("error: {}: {error}", args.found.display());
        return ExitCode::from(2);
    }
    let mut clean = true;
    for target in TARGETS {
        if !args.targets.is_empty() && !args.targets.iter().any(|name| name == target.name) {
            continue;
        }
        let count = target.short * args.times;
        match first_fault(target, count, &args) {
            None => eprintln!("{}: {count} inputs", target.name),
            Some((input, message)) => {
                clean = false;
                let file = args
                    .found
                    .join(format!("{}-{}.kdl", target.name, args.seed));
                let written = fs::write(&file, &input);
                eprintln!(
                    "{}: {message}\n    {} bytes: {}",
                    target.name,
                    input.len(),
                    written.map_or_else(|error| error.to_string(), |()| file.display().to_string())
                );
            }
        }
    }
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The first input of the run that shows a fault, made short, and what the fault is.
fn first_fault(target: Target, count: u64, args: &Args) -> Option<(Vec<u8>, String)> {
    let hook = panic::take_hook();
    // Faults are told of once they are short.
    panic::set_hook(Box::new(|_| {}));
    let seeds = (target.seeds)();
    let mut random = Random::new(args.seed);
    let fault = (0..count).find_map(|_| {
        let input = mutated(&seeds, &mut random);
        if args.trace {
            trace(&args.found, &input);
        }
        let message = fault(target, &input)?;
        let short = shortened(&input, |shorter| fault(target, shorter).is_some());
        Some((short, message))
    });
    panic::set_hook(hook);
    fault
}

fn trace(found: &Path, input: &[u8]) {
    // Without it the run still finds what does not kill it.
    drop(fs::write(found.join("current"), input));
}

fn fault(target: Target, input: &[u8]) -> Option<String> {
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).err()?;
    let text = panicked
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panicked.downcast_ref::<&str>().copied());
    Some(text.unwrap_or("it panicked").to_owned())
}
