//! The manual page ws-worker(8) and the shells' completions, made of the flags' own tree. Only tests run this: they lie in `deploy`,
//! and are written anew by `UPDATE_PAGES=1 cargo test -p ws-worker page`.

use super::Cli;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::path::Path;

/// One page for all commands: who asks `man ws-worker` need not know which command has the answer.
fn page() -> Vec<u8> {
    let mut cli = Cli::command();
    cli.build();
    let about = "holds the WebSockets behind Apache, nginx or HAProxy; an ordinary web app decides";
    let man = Man::new(cli.clone().about(about))
        .section("8")
        .date("")
        .manual("System administration");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    for command in cli
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        describe(command, &mut page);
    }
    let mut end = Roff::new();
    end.control("SH", ["EXAMPLES"]);
    end.control("nf", []);
    end.text([roman(cli.get_after_help().unwrap().to_string())]);
    end.control("fi", []);
    end.control("SH", ["FILES"]);
    end.text([roman(
        "/etc/ws-worker/ws-worker.toml: what serve and check read unless told otherwise.",
    )]);
    end.control("SH", ["SEE ALSO"]);
    end.text([bold("ws-worker.toml"), roman("(5)")]);
    end.to_writer(&mut page).unwrap();
    page
}

fn describe(command: &Command, page: &mut Vec<u8>) {
    let name = command.get_name();
    // A page has room for what the short help leaves out; clap_mangen would name such a flag and say nothing of it.
    let command = &command.clone().mut_args(|arg| arg.hide_short_help(false));
    let mut head = Roff::new();
    head.control("SH", [format!("ws-worker {name}").to_uppercase().as_str()]);
    head.to_writer(page).unwrap();
    // Each section of a command is the page's own heading again: one level down.
    let man = Man::new(command.clone().bin_name(format!("ws-worker {name}")));
    let mut below = Vec::new();
    man.render_synopsis_section(&mut below).unwrap();
    man.render_description_section(&mut below).unwrap();
    man.render_options_section(&mut below).unwrap();
    let below = String::from_utf8(below).unwrap();
    let mut lines: Vec<String> = below
        .lines()
        .filter(|line| !line.starts_with(".ie") && !line.starts_with(".el"))
        .map(|line| line.replacen(".SH ", ".SS ", 1))
        .collect();
    if let Some(examples) = command.get_after_help() {
        let mut end = Roff::new();
        end.control("nf", []);
        end.text([roman(examples.to_string())]);
        end.control("fi", []);
        lines.extend(end.to_roff().lines().map(str::to_owned));
    }
    page.extend_from_slice((lines.join("\n") + "\n").as_bytes());
}

/// Compares a file below `deploy` with what it should be, or writes it.
fn compare(name: &str, expected: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read(&path).unwrap_or_default();
    assert!(
        found == expected,
        "deploy/{name} is old: UPDATE_PAGES=1 cargo test -p ws-worker page"
    );
}

#[test]
fn the_page_of_the_program_has_every_command() {
    let page = page();
    let text = String::from_utf8_lossy(&page);
    for command in Cli::command().get_subcommands() {
        let heading = format!("WORKER {}", command.get_name().to_uppercase());
        assert!(text.contains(&heading), "{heading}");
    }
    compare("man/ws-worker.8", &page);
}

#[test]
fn every_flag_is_followed_by_what_it_does() {
    let page = String::from_utf8(page()).unwrap();
    let mut lines = page.lines();
    let mut flags = 0;
    while let Some(line) = lines.next() {
        if line == ".TP" {
            let flag = lines.next().unwrap();
            let words = lines.next().unwrap_or_default();
            assert!(!words.is_empty() && !words.starts_with('.'), "{flag}");
            flags += 1;
        }
    }
    assert!(flags > 100, "{flags}");
}

#[test]
fn completions_are_on_the_page_of_each_shell() {
    for (shell, name) in [
        (Shell::Bash, "ws-worker.bash"),
        (Shell::Zsh, "_ws-worker"),
        (Shell::Fish, "ws-worker.fish"),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "ws-worker", &mut script);
        // clap_complete 4.6 takes the dash of the name for the border of a command in one half of the bash script.
        let script = String::from_utf8(script)
            .unwrap()
            .replace("ws__subcmd__worker", "ws__worker");
        compare(&format!("completions/{name}"), script.as_bytes());
    }
}
