//! Arguments and exit codes; everything else is the library's.

mod cli;

use clap::Parser as _;
use cli::{Cli, Command, Later, Log, Serve};
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use ws_worker::Config;
use ws_worker::config::{ConfigError, DEFAULT_FILE};

/// `EX_UNAVAILABLE`: an address cannot be listened on, or the system refuses something else.
const UNAVAILABLE: u8 = 69;
/// `EX_CONFIG`: nothing was started.
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Demo(Later(demo)) => run(&cli.log, move || Config::demo(&demo.flags.0)),
        Command::Serve(Later(serve)) => {
            let Serve { config, flags } = *serve;
            let flags = flags.0;
            let file = match config {
                Some(file) => Some(file),
                None if flags.has("app") => None,
                None => Some(DEFAULT_FILE.into()),
            };
            run(&cli.log, move || match &file {
                Some(file) => Config::load(file, &flags),
                None => Config::from_flags(&flags),
            })
        }
        Command::Check(Later(check)) => show(&check.config),
        Command::Ctl(Later(options)) => ExitCode::from(ws_worker::ctl::run(&options)),
        Command::Connect(Later(options)) => ExitCode::from(ws_worker::connect::run(*options)),
    }
}

/// Lets glibc keep up to 32 MiB of freed memory in each of its arenas, rather than 128 KiB: a message of 1 MiB is otherwise
/// given back to the system with each answer, and taken again page by page, which costs more than all else that is done to it.
/// Freeing a large block is how it learns of that (`M_MMAP_THRESHOLD` in mallopt(3)); other allocators just free it. What is
/// large and stays is allocated before, straight from the system, whose pages count when they are touched.
fn keep_freed_memory() {
    const LARGEST: usize = 16 * 1024 * 1024;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}

/// Runs a worker; `read` is asked again whenever the configuration is to be reloaded.
fn run(
    log: &Log,
    read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
) -> ExitCode {
    let level = log.level();
    let read = move || -> Result<Config, ConfigError> {
        let mut config = read()?;
        config.log_level = level.unwrap_or(config.log_level);
        Ok(config)
    };
    let config = match read() {
        Ok(config) => config,
        Err(error) => return fail(CONFIGURATION, error),
    };
    if let Err(error) = ws_worker::log::start(config.log_level, log.format()) {
        return fail(CONFIGURATION, error);
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let source = move || read().map_err(|error| error.to_string());
    let ended = ws_worker::supervisor::run(config, Box::new(source), keep_freed_memory);
    ws_worker::log::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_of_the_configuration() => fail(CONFIGURATION, error),
        Err(error) => fail(UNAVAILABLE, error),
    }
}

/// Prints what a file means.
fn show(file: &Path) -> ExitCode {
    let config = match Config::load(file, &ws_worker::config::Overrides::default()) {
        Ok(config) => config,
        Err(error) => return fail(CONFIGURATION, error),
    };
    let mut text = format!("{}: ok\n{}", file.display(), config.summary());
    for warning in &config.warnings {
        text += &format!("warning: {warning}\n");
    }
    // A reader that went away wants no more of it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(code: u8, error: impl fmt::Display) -> ExitCode {
    eprintln!("ws-worker: {error}");
    ExitCode::from(code)
}
