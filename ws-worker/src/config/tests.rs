//! Whole files: what they mean, and what is said of those that mean nothing.

use super::*;
use std::io::Write as _;

/// Reads a file that holds `text`.
fn load(text: &str) -> Result<Config, String> {
    load_with(text, &[])
}

fn load_with(text: &str, flags: &[(&str, &str)]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::load(file.path(), &overrides(flags)).map_err(|error| {
        let shown = error.to_string();
        shown.replace(file.path().to_str().unwrap(), "FILE")
    })
}

fn overrides(flags: &[(&str, &str)]) -> Overrides {
    let mut overrides = Overrides::default();
    for (key, written) in flags {
        overrides.set(key, written).unwrap();
    }
    overrides
}

const ECHO: &str = "[[route]]\npath = '/'\nhandler = 'echo'\n";

/// Puts a file with a secret somewhere and returns its path as TOML.
fn secret_file(content: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    let path = format!("'{}'", file.path().display());
    (file, path)
}

fn hooks(route: &Route) -> &Hooks {
    let Target::Hooks(hooks) = &route.target else {
        panic!("{:?}", route.target)
    };
    hooks
}

#[test]
fn defaults_are_those_that_were_promised() {
    let config = load("[[route]]\npath = '/'\napp = 'http://127.0.0.1:8080/ws'\n").unwrap();
    let seconds = Duration::from_secs;
    let mib = 1024 * 1024;
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(
        config.listeners[0].address,
        Address::Tcp("127.0.0.1:9000".parse().unwrap())
    );
    assert!(!config.listeners[0].proxy_protocol);
    assert!(config.threads >= 1);
    assert!(config.trusted_proxies.is_empty() && config.control.is_none());
    assert_eq!(config.drain, seconds(20));
    assert_eq!(config.journal, None);
    assert_eq!(config.warnings, Vec::<String>::new());

    assert_eq!(config.head.handshake_timeout, seconds(10));
    assert_eq!(config.head.max_head, 16 * 1024);
    assert_eq!(config.head.max_headers, 100);
    assert_eq!(config.head.max_subprotocols, 32);
    assert_eq!(config.head.versions, Versions::ALL);

    assert!((1..=65_536).contains(&config.bounds.max_connections));
    assert_eq!(config.bounds.max_handshakes, 1_024);
    assert_eq!(config.bounds.memory, 256 * mib);
    assert_eq!(config.bounds.max_per_peer, None);
    assert_eq!(config.bounds.max_control_body, 16 * mib);

    let route = &config.routes[0];
    assert_eq!(route.limits.heartbeat, Some(seconds(25)));
    assert_eq!(route.limits.pong_timeout, seconds(20));
    assert_eq!(route.limits.idle_timeout, None);
    assert_eq!(route.limits.close_timeout, seconds(5));
    assert_eq!(route.limits.max_message, mib);
    assert_eq!(route.limits.max_fragments, 16_384);
    assert_eq!(route.limits.max_empty_fragments, 256);
    assert_eq!(route.limits.max_control_frames, 1_024);
    assert_eq!(route.limits.max_length_digits, 9);
    assert_eq!(route.versions, Versions::ALL);
    assert_eq!(route.allowed_origins, None);
    assert_eq!(route.heartbeat_text, None);
    assert_eq!(route.max_output, mib);
    assert_eq!(route.stall_timeout, seconds(30));
    assert_eq!(
        (route.max_groups, route.max_group_name, route.max_meta),
        (64, 128, 8 * 1024)
    );

    let hooks = hooks(route);
    assert_eq!(hooks.dialect, Dialect::Plain);
    assert_eq!(hooks.concurrency, 32);
    assert_eq!(hooks.hook_timeout, seconds(30));
    assert_eq!(hooks.give_up, seconds(60));
    assert_eq!(hooks.retry, Retry::Unknown);
    assert_eq!(
        hooks.forward_headers,
        [
            "cookie",
            "authorization",
            "user-agent",
            "accept-language",
            "x-request-id",
            "traceparent"
        ]
    );
    assert!(!hooks.started && hooks.server_name.is_none() && hooks.secrets.is_empty());
    assert_eq!(
        (
            hooks.queue_messages,
            hooks.queue_bytes,
            hooks.max_hook_answer
        ),
        (64, mib, mib)
    );
}

/// One key with a value that is not its default.
const WRITTEN: &[(&str, &str)] = &[
    (
        "listen",
        "['127.0.0.1:9001', 'unix:/run/ws.sock', 'systemd:ws', 'fd:0', { addr = '[::1]:9002', proxy_protocol = true }]",
    ),
    ("threads", "2"),
    ("worker", "'web1'"),
    ("trusted_proxies", "['127.0.0.1', '::1', '10.0.0.0/8']"),
    ("allowed_origins", "['https://www.example.org']"),
    ("versions", "[7, 8, 13]"),
    ("journal", "'/tmp/journal'"),
    ("journal_mode", "'best-effort'"),
    ("log_level", "'debug'"),
    ("app", "'http://127.0.0.1:1/'"),
    ("dialect", "'plain'"),
    ("secret_file", "['/dev/null/nothing']"),
    ("ca_file", "'/nowhere'"),
    ("concurrency", "8"),
    ("hook_timeout", "'10s'"),
    ("give_up", "'1m'"),
    ("retry", "'unsent'"),
    ("answer_to", "['self', 'red']"),
    ("forward_headers", "['Cookie']"),
    ("started", "true"),
    ("server_name", "'www.example.org'"),
    ("keep", "true"),
    ("docroot", "'/usr'"),
    ("docroot_suffix", "'_ws.php'"),
    ("handshake_timeout", "'5s'"),
    ("heartbeat", "'off'"),
    ("pong_timeout", "'100ms'"),
    ("idle_timeout", "'1h'"),
    (
        "heartbeat_text",
        "{ receive = 'Heartbeat', answer = 'yes' }",
    ),
    ("close_timeout", "'1s'"),
    ("stall_timeout", "'1s'"),
    ("drain", "'0s'"),
    ("max_head", "'8KiB'"),
    ("max_headers", "50"),
    ("max_subprotocols", "3"),
    ("max_message", "'16MiB'"),
    ("max_fragments", "65536"),
    ("max_empty_fragments", "0"),
    ("max_control_frames", "10"),
    ("max_length_digits", "4"),
    ("max_output", "'2MiB'"),
    ("queue_messages", "1"),
    ("queue_bytes", "'64KiB'"),
    ("max_hook_answer", "'64KiB'"),
    ("max_groups", "1"),
    ("max_group_name", "'64B'"),
    ("max_meta", "'1KiB'"),
    ("max_connections", "100"),
    ("max_handshakes", "10"),
    ("max_per_peer", "20"),
    ("memory", "'64MiB'"),
    ("max_control_body", "'1MiB'"),
    ("deflate", "false"),
    ("deflate_min", "'256B'"),
    ("deflate_takeover", "true"),
    ("deflate_memory", "'1MiB'"),
    ("path", "'/chat'"),
    ("handler", "'chat'"),
];

#[test]
fn every_key_is_written_here() {
    let written: Vec<_> = WRITTEN.iter().map(|(key, _)| *key).collect();
    let known: Vec<_> = key::KEYS.iter().map(|key| key.name).collect();
    assert_eq!(written, known);
}

#[test]
fn every_key_is_accepted_where_it_means_something() {
    for (key, value) in WRITTEN {
        if *key == "secret_file" {
            continue; // Its file is missing; see below.
        }
        let scope = key::Key::find(key).unwrap().scope;
        let top = format!("{key} = {value}\n{ECHO}");
        assert_eq!(load(&top).is_ok(), scope != key::Scope::Route, "{top}");
        let own = match *key {
            "path" => "handler = 'echo'\n",
            "app" | "handler" => "path = '/'\n",
            "docroot" => "path = '/'\napp = 'fcgi://127.0.0.1'\n",
            _ => "path = '/'\napp = 'http://127.0.0.1/'\n",
        };
        let route = format!("[[route]]\n{own}{key} = {value}\n");
        assert_eq!(load(&route).is_ok(), scope != key::Scope::Top, "{route}");
    }
}

#[test]
fn every_key_is_read() {
    // What a key means is asked for under its name: a value of the wrong kind must not pass, wherever it stands.
    for key in key::KEYS {
        for text in [
            format!("{} = 1979-05-27\n{ECHO}", key.name),
            format!("[[route]]\npath = '/'\n{} = 1.5\n", key.name),
        ] {
            assert!(load(&text).is_err(), "{text}");
        }
    }
}

#[test]
fn apps_of_2010_have_their_own_urls() {
    let path = |app: &str| {
        let config = load(&format!("app = '{app}'\ndialect = 'typhoonae'\n")).unwrap();
        hooks(&config.routes[0]).url.path.clone()
    };
    let usual = "/_ah/websocket/{event}/{path}";
    assert_eq!(path("http://127.0.0.1"), usual);
    assert_eq!(path("http://127.0.0.1/a/?k=v"), format!("/a{usual}?k=v"));
    assert_eq!(path("http://127.0.0.1/{event}"), "/{event}");
    assert_eq!(
        path("fcgi://127.0.0.1/srv/app.php"),
        format!("/srv/app.php{usual}")
    );
}

#[test]
fn a_whole_file_means_what_it_says() {
    let (_token, token_path) = secret_file("0123456789abcdef0123\n");
    let (_one, one) = secret_file("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n");
    let (_two, two) = secret_file("a raw secret of many bytes\n");
    let config = load(&format!(
        r#"
listen = ["127.0.0.1:9000", "unix:/run/ws-worker/ws.sock", {{ addr = "127.0.0.1:9002", proxy_protocol = true }}]
threads = 2
worker = "web1"
trusted_proxies = ["127.0.0.1", "::1"]
heartbeat = "40s"
max_message = "2MiB"
max_per_peer = 7
idle_timeout = "5m"
versions = [13]

[control]
listen = "127.0.0.1:9001"
token_file = {token_path}

[[route]]
path = "/chat"
app = "http://127.0.0.1:8080/ws"
dialect = "plain"
allowed_origins = ["https://www.example.org"]
secret_file = [{one}, {two}]
concurrency = 16
hook_timeout = "3s"
give_up = "10s"
retry = "unsent"
forward_headers = ["Cookie", "X-Tenant", "cookie"]
started = true
server_name = "WWW.example.org"
heartbeat_text = {{ receive = "Heartbeat" }}
max_message = "64KiB"
versions = [75, 76]
idle_timeout = "off"

[[route]]
path = "/echo"
handler = "echo"
"#
    ))
    .unwrap();
    assert_eq!(config.listeners.len(), 3);
    assert!(config.listeners[2].proxy_protocol);
    assert_eq!((config.threads, config.worker.as_str()), (2, "web1"));
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.bounds.max_per_peer, Some(7));
    let control = config.control.as_ref().unwrap();
    assert!(control.token == Some(Secret(b"0123456789abcdef0123".to_vec())));
    assert_eq!(
        config.head.versions.newest_first().count(),
        3,
        "the union of all routes'"
    );

    let chat = &config.routes[0];
    assert_eq!((chat.id, chat.path.as_str()), (RouteId(0), "/chat"));
    assert_eq!(
        chat.limits.heartbeat,
        Some(Duration::from_secs(40)),
        "from the top"
    );
    assert_eq!(chat.limits.max_message, 64 * 1024);
    assert_eq!(chat.limits.idle_timeout, None);
    assert_eq!(chat.versions.newest_first().count(), 2);
    let text = HeartbeatText {
        receive: "Heartbeat".to_owned(),
        answer: None,
    };
    assert_eq!(chat.heartbeat_text, Some(text));
    let hooks = hooks(chat);
    assert_eq!(hooks.url.to_string(), "http://127.0.0.1:8080/ws");
    assert_eq!(
        (hooks.concurrency, hooks.retry, hooks.started),
        (16, Retry::Unsent, true)
    );
    assert_eq!(hooks.forward_headers, ["cookie", "x-tenant"]);
    assert_eq!(hooks.server_name.as_deref(), Some("www.example.org"));
    assert!(hooks.secrets[0] == Secret(b"0123456789abcdef01234567".to_vec()));
    assert!(hooks.secrets[1] == Secret(b"a raw secret of many bytes".to_vec()));

    let echo = &config.routes[1];
    assert!(matches!(echo.target, Target::Echo));
    assert_eq!(echo.limits.max_message, 2 * 1024 * 1024);
    assert_eq!(echo.limits.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(
        config.summary().to_string(),
        "  listen   127.0.0.1:9000
  listen   unix:/run/ws-worker/ws.sock
  listen   127.0.0.1:9002 (PROXY protocol)
  control  127.0.0.1:9001 (token)
  route    /chat -> http://127.0.0.1:8080/ws, signed, versions 76 75, origins https://www.example.org
  route    /echo -> echo, versions 13
"
    );
    let debug = format!("{config:?}");
    assert!(!debug.contains("0123456789") && !debug.contains("raw secret"));
}

#[test]
fn an_app_at_the_top_is_every_route_s_that_has_none() {
    let alone = load("app = 'http://127.0.0.1:1/'\n").unwrap();
    assert_eq!(alone.routes[0].path, "/");
    let config = load(
        "app = 'http://127.0.0.1:1/'\n[[route]]\npath = '/a'\n[[route]]\npath = '/b'\nhandler = 'echo'\n\
         [[route]]\npath = '/c'\napp = 'http://127.0.0.1:2/'\n[[route]]\npath = '/d'\napp = 'http://127.0.0.1:1/'\n",
    )
    .unwrap();
    assert_eq!(hooks(&config.routes[0]).app, 0);
    assert!(matches!(config.routes[1].target, Target::Echo));
    assert_eq!(hooks(&config.routes[2]).app, 1);
    assert_eq!(
        hooks(&config.routes[3]).app,
        0,
        "the same URL is the same app"
    );
}

#[test]
fn a_flag_wins_over_the_top_and_over_every_route() {
    let text = "heartbeat = '40s'\nlisten = '127.0.0.1:1'\n[[route]]\npath = '/a'\nhandler = 'echo'\nmax_message = '1KiB'\n\
                [[route]]\npath = '/b'\napp = 'http://127.0.0.1:1/'\n";
    let flags = [
        ("heartbeat", "off"),
        ("max_message", "16MiB"),
        ("listen", "127.0.0.1:2"),
        ("listen", "127.0.0.1:3"),
        ("app", "http://127.0.0.1:9/"),
        ("control", "unix:/run/c.sock"),
        ("heartbeat_text", "Heartbeat"),
        ("allowed_origins", "https://a.test, https://b.test"),
    ];
    let config = load_with(text, &flags).unwrap();
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|l| l.address.to_string())
        .collect();
    assert_eq!(listeners, ["127.0.0.1:2", "127.0.0.1:3"]);
    for route in &config.routes {
        assert_eq!(route.limits.heartbeat, None);
        assert_eq!(route.limits.max_message, 16 * 1024 * 1024);
        assert_eq!(route.heartbeat_text.as_ref().unwrap().receive, "Heartbeat");
        assert_eq!(route.allowed_origins.as_ref().unwrap().len(), 2);
    }
    assert!(
        matches!(config.routes[0].target, Target::Echo),
        "a handler stays"
    );
    assert_eq!(hooks(&config.routes[1]).url.host, "127.0.0.1:9");
    assert!(config.control.is_some());
}

#[test]
fn flags_alone_are_enough() {
    let config = Config::from_flags(&overrides(&[
        ("app", "http://127.0.0.1:8080/ws"),
        ("heartbeat_text", "{ receive = 'ping', answer = 'pong' }"),
        ("started", "true"),
        ("max_per_peer", "5"),
        ("versions", "8,13"),
    ]))
    .unwrap();
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].path, "/");
    let text = config.routes[0].heartbeat_text.as_ref().unwrap();
    assert_eq!(
        (text.receive.as_str(), text.answer.as_deref()),
        ("ping", Some("pong"))
    );
    assert!(hooks(&config.routes[0]).started);
    assert_eq!(config.bounds.max_per_peer, Some(5));

    let error = Config::from_flags(&Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("there is no route"), "{error}");
}

#[test]
fn the_demo_has_its_page_and_what_the_page_talks_to() {
    let config = Config::demo(&overrides(&[
        ("max_message", "16MiB"),
        ("max_fragments", "65536"),
    ]))
    .unwrap();
    let routes: Vec<_> = config
        .routes
        .iter()
        .map(|route| route.path.as_str())
        .collect();
    assert_eq!(routes, ["/", "/echo", "/chat", "/version"]);
    assert!(
        matches!(config.routes[0].target, Target::Page(page) if page.starts_with("<!doctype html>"))
    );
    assert!(matches!(config.routes[1].target, Target::Echo));
    assert!(matches!(config.routes[2].target, Target::Chat));
    assert!(matches!(config.routes[3].target, Target::Version));
    assert_eq!(config.routes[1].limits.max_message, 16 * 1024 * 1024);
    assert_eq!(config.routes[1].limits.max_fragments, 65_536);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:9000");
    assert!(config.warnings.is_empty());
}

#[test]
fn the_demo_page_stays_within_what_old_browsers_and_its_policy_allow() {
    let script = DEMO_PAGE.split("<script>").nth(1).unwrap();
    for newer in [
        "=>",
        "`",
        "let ",
        "const ",
        "class ",
        "async ",
        "...",
        "encodeURIComponent",
    ] {
        assert!(!script.contains(newer), "{newer}");
    }
    for outside in [
        "http://",
        "https://",
        "src=",
        "href=",
        "@import",
        "url(",
        "innerHTML",
        "<link",
    ] {
        assert!(!DEMO_PAGE.contains(outside), "{outside}");
    }
    for id in [
        "log",
        "text",
        "send",
        "echo-text",
        "echo-send",
        "echo-out",
        "binary-send",
        "binary-out",
        "version",
        "ping",
        "state",
    ] {
        assert_eq!(
            DEMO_PAGE.matches(&format!("id=\"{id}\"")).count(),
            1,
            "{id}"
        );
    }
}

#[test]
fn the_longest_prefix_wins_at_a_segment_s_border() {
    let mut config = Config::default();
    for (path, id) in ["/chat", "/chat/room", "/"].into_iter().zip(0..) {
        config
            .routes
            .push(Arc::new(Route::new(RouteId(id), path, Target::Echo)));
    }
    let check = |path: &str, expected: Option<&str>| {
        let found = config.route_for(path).map(|route| route.path.as_str());
        assert_eq!(found, expected, "{path}");
    };
    check("/chat", Some("/chat"));
    check("/chat/", Some("/chat"));
    check("/chat/x", Some("/chat"));
    check("/chat?x", Some("/chat"));
    check("/chat/room", Some("/chat/room"));
    check("/chat/rooms", Some("/chat"));
    check("/chatter", Some("/"));
    check("/Chat", Some("/"));
    check("/", Some("/"));
    check("/?a=/chat", Some("/"));
    check("*", None);
    config.routes.pop();
    assert!(config.route_for("/chatter").is_none());
    assert!(config.route_for("/").is_none());
    assert!(Config::default().route_for("/").is_none());
}

#[test]
fn options_that_weaken_the_worker_are_said_at_start() {
    let (file, token) = secret_file("short");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = load(&format!(
        "trusted_proxies = ['0.0.0.0/0']\nheartbeat = 'off'\nallowed_origins = ['null']\nmemory = '1MiB'\nmax_message = '2MiB'\n\
         [control]\nlisten = '0.0.0.0:9001'\ntoken_file = {token}\n{ECHO}"
    ))
    .unwrap();
    let path = token.trim_matches('\'');
    assert_eq!(
        config.warnings,
        [
            format!("{path} can be read by every user of this machine"),
            format!("the token in {path} is short: 16 characters are hard to guess"),
            "the control API on 0.0.0.0:9001 can be reached from other machines: its token is the only guard, and not encrypted on the way".to_owned(),
            "trusted_proxies has 0.0.0.0/0: every client can claim any address and scheme".to_owned(),
            "heartbeat is off on /: proxies cut silent sockets, and dead ones are noticed late".to_owned(),
            "route /: allowed_origins has \"null\", which any page can send from a sandboxed frame".to_owned(),
            "route /: max_message is more than the 1MiB of memory, so such a message never gets through".to_owned(),
        ]
    );
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    // A file, `---`, what is said of it, `===`. `@echo` stands for a route that is right.
    for case in include_str!("wrong.txt").split("===\n") {
        let (text, expected) = case.split_once("---\n").unwrap();
        let text = text.replace("@echo\n", ECHO);
        assert_eq!(load(&text).unwrap_err(), expected.trim_end(), "{text}");
    }
}

#[test]
fn lines_end_as_they_like() {
    let error = load("threads = 2\r\nheartbeat = 25\r\n").unwrap_err();
    assert!(
        error.starts_with(
            "FILE:2:13: `heartbeat`: a duration needs its unit\n  |\n2 | heartbeat = 25\n"
        ),
        "{error}"
    );
}

/// The sample file with every comment mark before a key removed.
fn sample() -> String {
    let text = include_str!("../../../deploy/ws-worker.toml");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        Some(_) => "",
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_file_is_a_configuration() {
    let shipped = load(include_str!("../../../deploy/ws-worker.toml")).unwrap();
    assert_eq!(shipped.routes.len(), 1);
    assert!(shipped.warnings.is_empty());
}

#[test]
fn the_sample_file_shows_every_key_with_its_default() {
    let sample = sample();
    let table = raw::Table::parse(&sample).unwrap();
    let routes = table.get("route").unwrap().value.each();
    let raw::Data::Table(route) = &routes[0].data else {
        panic!("{routes:?}")
    };
    for key in key::KEYS {
        assert!(
            table.get(key.name).or(route.get(key.name)).is_some(),
            "{}",
            key.name
        );
    }
    let bare: Vec<&str> = sample
        .lines()
        .filter(|line| {
            ![
                "secret_file",
                "token_file",
                "ca_file",
                "handler",
                "app =",
                "max_connections",
                "worker =",
                "threads =",
            ]
            .iter()
            .any(|key| line.starts_with(key))
        })
        .filter(|line| {
            ![
                "allowed_origins",
                "docroot =",
                "heartbeat_text",
                "server_name",
                "trusted_proxies",
            ]
            .iter()
            .any(|key| line.starts_with(key))
        })
        .collect();
    let app = "app = 'http://127.0.0.1:8080/ws'";
    let written = load(&format!("{app}\n{}", bare.join("\n"))).unwrap();
    let defaults = load(&format!(
        "{app}\n[control]\nlisten = 'unix:/run/ws-worker/control.sock'\n[[route]]\npath = '/'\n"
    ))
    .unwrap();
    assert_eq!(format!("{written:?}"), format!("{defaults:?}"));
}

#[test]
fn the_page_for_operators_has_every_key() {
    let page = include_str!("../../docs/configuration.md");
    let plain = |text: &str| {
        text.replace(['`', '"', '[', ']', ' '], "")
            .replace(';', ",")
    };
    for key in key::KEYS {
        let place = match key.scope {
            key::Scope::Top => "top",
            key::Scope::Anywhere => "both",
            key::Scope::Route => "route",
        };
        let head = format!("| `{}` | {place} |", key.name);
        let rows = page.lines().filter_map(|line| line.strip_prefix(&head));
        let [row] = rows.collect::<Vec<_>>()[..] else {
            panic!("there is not one row {head}");
        };
        let default = row.split('|').next().unwrap();
        assert_eq!(plain(default), plain(key.default), "{}", key.name);
    }
}

#[cfg(feature = "tls")]
#[test]
fn an_app_behind_tls_is_believed_on_one_authority() {
    let (_file, path) = secret_file(include_str!("authority.pem"));
    let route = |path: &str, ca: &str| {
        format!("[[route]]\npath = '{path}'\napp = 'https://127.0.0.1/ws'\nca_file = {ca}\n")
    };
    let once = load(&(route("/a", &path) + &route("/b", &path))).unwrap();
    assert!(once.routes.iter().all(|route| hooks(route).tls.is_some()));
    assert_eq!(
        once.summary()
            .to_string()
            .matches("https://127.0.0.1/ws")
            .count(),
        2
    );
    let plain = load(&format!("app = 'http://127.0.0.1/'\nca_file = {path}\n")).unwrap();
    assert!(hooks(&plain.routes[0]).tls.is_none());
    let error = load(&(route("/a", &path) + &route("/b", "'/elsewhere'")));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("believed on one authority"), "{error}");
    let error = load(&route("/a", "'/elsewhere'")).unwrap_err().to_string();
    assert!(
        error.contains("`ca_file`: /elsewhere cannot be read"),
        "{error}"
    );
}

#[test]
fn files_with_secrets_must_hold_one() {
    let (_empty, empty) = secret_file(" \n");
    let (_words, words) = secret_file("two words");
    let (_odd, odd) = secret_file("whsec_!!!");
    let control =
        |path: &str| format!("[control]\nlisten = '127.0.0.1:1'\ntoken_file = {path}\n{ECHO}");
    let hook = |path: &str| format!("app = 'http://127.0.0.1/'\nsecret_file = {path}\n");
    let check = |text: String, expected: &str| {
        let error = load(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check(
        control("'/no/such/file'"),
        "FILE:3:14: /no/such/file cannot be read: No such file or directory",
    );
    check(control(&empty), " is empty\n");
    check(control(&words), " holds more than one printable word\n");
    check(
        control("'/dev/zero'"),
        "/dev/zero is no file that holds a secret\n",
    );
    check(hook(&empty), " is empty\n");
    check(hook(&odd), " is no base64\n");
    check(
        hook(&format!("[{odd}, {odd}, {odd}]")),
        "FILE:2:15: at most two secrets are used at once\n",
    );
    check(
        hook("['/no/such/file']"),
        "FILE:2:16: /no/such/file cannot be read",
    );
}

#[test]
fn a_journal_lies_where_a_file_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let load = |path: &Path| load(&format!("journal = {:?}\n{ECHO}", path.to_str().unwrap()));
    assert_eq!(load(&path).unwrap().journal.as_ref(), Some(&path));
    assert!(
        !path.exists(),
        "a look at the configuration leaves no trace"
    );
    std::fs::create_dir(&path).unwrap();
    let error = load(&path).unwrap_err();
    assert!(error.contains(" is a folder\n") && error.contains("name a file in it"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/no/such.toml"), &Overrides::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/no/such.toml: cannot be read: No such file or directory (os error 2)
  = name a file with --config, or an app with --app; `ws-worker demo` needs neither"
    );
}
