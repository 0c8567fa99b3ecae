//! The command line: commands, flags, help. What the keys of a configuration are called is the library's affair.

#[cfg(test)]
mod manual;

use clap::builder::Resettable;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use ws_worker::config::{DEFAULT_FILE, Flags};
use ws_worker::log::Format;

const EXAMPLES: &str = "\
Examples:
  ws-worker demo                                     a page to try it: http://127.0.0.1:9000/
  ws-worker serve --app http://127.0.0.1:8080/ws     every path, hooks to one app
  ws-worker serve --config ws-worker.toml
  ws-worker check --config ws-worker.toml            what would it do?
  ws-worker connect ws://127.0.0.1:9000/echo         a client: lines out, messages in
  ws-worker ctl status                               how is the one that runs?

Exit codes (connect and ctl have their own): 0 ended as told, 2 wrong usage, 69 cannot start (an address is taken), 78 wrong configuration";

const SERVE_EXAMPLES: &str = "\
Sizes and times have units: 64KiB, 16MiB, 100ms, 25s, 5m. A flag wins over the file, at the top and in every route.

Examples:
  ws-worker serve
  ws-worker serve --config ws-worker.toml --log-level debug
  ws-worker serve --app http://127.0.0.1:8080/ws --allowed-origins https://www.example.org
  ws-worker serve --app http+unix:///run/app.sock:/ws --listen unix:/run/ws-worker/ws.sock \\
      --control unix:/run/ws-worker/control.sock";

const DEMO_EXAMPLES: &str = "\
Sizes and times have units: 64KiB, 16MiB, 100ms, 25s, 5m.

Examples:
  ws-worker demo
  ws-worker demo --listen 0.0.0.0:9000
  ws-worker demo --max-message 16MiB --versions 7,8,13";

const CTL_EXAMPLES: &str = "\
The worker is found by its configuration's [control], or by --control and --token-file.

Examples:
  ws-worker ctl status
  ws-worker ctl --control unix:/run/ws-worker/control.sock list --route /chat
  ws-worker ctl broadcast --group red 'hello red'
  ws-worker ctl close ID --code 4000 --reason bye
  ws-worker ctl --json status | jq .routes

Exit codes:
  0    done
  1    refused: no such socket, its output is full, a configuration that cannot be used
  2    wrong usage
  3    no worker there
  4    no permission: the token is missing or wrong, or the file mode of the socket
  78   the configuration cannot be read, or has no [control]
  124  no answer within --timeout";

const CONNECT_EXAMPLES: &str = "\
Lines of stdin are sent as text; messages are printed to stdout, one a line, text as it is and binary as hex:00ff10.
Everything else goes to stderr. When stdin ends, so does the connection, after the closing handshake.

Examples:
  ws-worker connect ws://127.0.0.1:9000/chat
  echo hello | ws-worker connect --count 1 ws://127.0.0.1:9000/echo
  ws-worker connect --wire hixie76 --origin http://example.org ws://127.0.0.1:9000/chat
  ws-worker connect --quiet --ping ws+unix:/run/ws-worker/ws.sock:/chat </dev/null     is it alive?

Exit codes:
  0    closed cleanly with 1000, 1001 or no code, or --count messages came
  1    refused: status and body are on stderr
  2    wrong usage, or a line that cannot be sent
  3    no connection, or it was lost, or it ended before --count messages came
  4    the server broke the protocol
  5    closed by the server with another code
  124  a deadline has passed: connecting, handshake, --timeout, closing
  130, 143  interrupted";

/// Holds the WebSockets behind Apache, nginx or HAProxy; an ordinary web app decides.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a page to try the worker: chat, echo, binary, ping
    ///
    /// Serves a page at / that tries the worker in any browser, and sockets at /echo, /chat and /version.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(Later<Demo>),
    /// Serve sockets and tell an app about them by hooks
    ///
    /// Serves sockets and tells an app about them by hooks. Without --config and --app it reads
    /// /etc/ws-worker/ws-worker.toml.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Later<Serve>),
    /// Read a configuration file and say what it means, or what is wrong
    Check(Later<Check>),
    /// Tell a running worker: status, list, send, broadcast, close, drain, reload
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(Later<ws_worker::ctl::Options>),
    /// Connect as a client of any version: send lines, print messages
    #[command(after_help = CONNECT_EXAMPLES)]
    Connect(Later<ws_worker::connect::Options>),
}

/// A command's flags, which are made when it is the one that is meant: what the others' would take of memory, a worker that runs
/// would keep.
#[derive(Debug)]
pub(crate) struct Later<T>(pub(crate) Box<T>);

impl<T: FromArgMatches> FromArgMatches for Later<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(|flags| Self(Box::new(flags)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Later<T> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| with_flags(command, T::augment_args))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command.defer(|command| with_flags(command, T::augment_args_for_update))
    }
}

/// Adds a command's flags, and nothing that their type says of itself.
fn with_flags(command: clap::Command, add: fn(clap::Command) -> clap::Command) -> clap::Command {
    let about = command.get_about().cloned();
    let long = command.get_long_about().cloned();
    add(command)
        .about(Resettable::from(about))
        .long_about(Resettable::from(long))
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) flags: Flags<false>,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The configuration file [default: /etc/ws-worker/ws-worker.toml, unless there is --app]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Flags<true>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Log {
    /// What is logged [default: the file's log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        value_enum,
        hide_possible_values = true
    )]
    log_level: Option<Level>,
    /// text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true
    )]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
    Journal,
}

impl Log {
    /// Returns what a flag says; otherwise the file does.
    pub(crate) fn level(&self) -> Option<tracing::Level> {
        self.log_level.map(|level| match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        })
    }

    pub(crate) fn format(&self) -> Option<Format> {
        self.log_format.map(|format| match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
            LogFormat::Journal => Format::Journal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use ws_worker::Config;

    fn demo(arguments: &[&str]) -> Result<Config, String> {
        let line = ["ws-worker", "demo"].iter().chain(arguments);
        match Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Demo(Later(demo)) => {
                Config::demo(&demo.flags.0).map_err(|error| error.to_string())
            }
            Command::Serve(_) | Command::Check(_) | Command::Ctl(_) | Command::Connect(_) => {
                Err("another command".to_owned())
            }
        }
    }

    fn help(command: &str, short: bool) -> String {
        let mut cli = Cli::command();
        cli.build(); // Only then do commands have the flags that are everywhere.
        let command = cli.find_subcommand_mut(command).unwrap();
        if short {
            command.render_help().to_string()
        } else {
            command.render_long_help().to_string()
        }
    }

    #[test]
    fn a_command_says_of_itself_what_it_said_before_its_flags_were_made() {
        let mut built = Cli::command();
        built.build();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let said = |command: &clap::Command| {
                let texts = [command.get_about(), command.get_long_about()];
                texts.map(|text| text.map(ToString::to_string))
            };
            let same = built.find_subcommand(name).unwrap();
            assert_eq!(said(same), said(command), "{name}");
        }
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_of_times_and_limits_is_a_flag_of_demo_and_serve() {
        for command in ["demo", "serve"] {
            let help = help(command, false);
            for key in [
                "handshake-timeout",
                "heartbeat",
                "pong-timeout",
                "idle-timeout",
                "heartbeat-text",
                "close-timeout",
                "drain",
                "max-head",
                "max-headers",
                "max-message",
                "max-fragments",
                "max-empty-fragments",
                "max-control-frames",
                "max-subprotocols",
                "max-length-digits",
                "max-connections",
                "max-per-peer",
                "max-output",
                "queue-messages",
                "queue-bytes",
                "memory",
                "max-control-body",
                "max-hook-answer",
                "max-groups",
                "max-group-name",
                "max-meta",
                "max-handshakes",
                "stall-timeout",
                "deflate",
                "deflate-min",
                "deflate-takeover",
                "deflate-memory",
                "versions",
                "allowed-origins",
                "threads",
                "listen",
                "control",
                "token-file",
                "trusted-proxies",
                "log-level",
                "log-format",
            ] {
                assert!(help.contains(&format!("--{key} ")), "{command} --{key}");
            }
        }
        assert!(help("serve", false).contains("--app <URL>"));
        assert!(!help("demo", false).contains("--app"));
    }

    #[test]
    fn the_short_help_is_short() {
        for command in ["demo", "serve"] {
            let help = help(command, true);
            assert!(help.lines().count() < 50, "{help}");
            assert!(help.contains("Examples:"));
        }
    }

    #[test]
    fn a_flag_that_cannot_be_used_says_what_could() {
        fn check(arguments: &[&str], expected: &str) {
            let error = demo(arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        check(
            &["--max-message", "16"],
            "error: invalid value '16' for '--max-message <SIZE>': a size needs its unit; write \"16B\"",
        );
        check(
            &["--max-message", "16MB"],
            "this is no size; write \"16MiB\" (units: B, KiB, MiB, GiB)",
        );
        check(
            &["--threads", "0"],
            "0 is out of bounds; write a whole number from 1 to 255",
        );
        check(
            &["--hartbeat", "1s"],
            "a similar argument exists: '--heartbeat'",
        );
        check(
            &["--app", "http://127.0.0.1/"],
            "unexpected argument '--app'",
        );
        check(
            &["--control", "127.0.0.1:9001"],
            "--control: a control API on TCP needs a token",
        );
    }

    #[test]
    fn lists_may_be_given_at_once_or_one_by_one() {
        let config = demo(&[
            "--listen",
            "127.0.0.1:9000",
            "--listen",
            "unix:/run/ws.sock",
            "--versions",
            "7,8",
            "--versions",
            "13",
        ])
        .unwrap();
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.head.versions.newest_first().count(), 3);
    }
}
