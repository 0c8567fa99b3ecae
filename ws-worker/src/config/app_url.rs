//! Reads an app's URL and finds out where to connect. Knows no hook.

use super::error::Wrong;
use super::raw::Value;
use super::read;
use super::{AppAddress, AppUrl, Scheme, Tls};
use crate::tls::Trust;
use std::net::{SocketAddr, ToSocketAddrs as _};

const EXAMPLES: &str = "write \"http://127.0.0.1:8080/ws\" or \"http+unix:///run/app.sock:/ws\"";

/// Reads `http://HOST[:PORT][/PATH]`, the same with `https` or `fcgi`, `http+unix:///SOCKET:/PATH` or `fcgi+unix`, and
/// resolves the host.
pub(crate) fn parse(value: &Value) -> Result<AppUrl, Wrong> {
    let url = read::text(value)?;
    let wrong = |message: &str, help: &str| Err(Wrong::new(&value.place, message).help(help));
    if url.contains('#') {
        return wrong(
            "an app's URL has no fragment",
            "leave out `#` and what follows",
        );
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong(
            "an app's URL is printable ASCII without blanks",
            "write other characters percent-encoded, a host in its xn-- form",
        );
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return wrong("an app's URL begins with its scheme", EXAMPLES);
    };
    match scheme {
        "http" => over_tcp(value, Scheme::Http, rest),
        "http+unix" => over_unix(value, Scheme::Http, rest),
        "fcgi" => over_tcp(value, Scheme::FastCgi, rest),
        "fcgi+unix" => over_unix(value, Scheme::FastCgi, rest),
        "https" if !Trust::IS_BUILT_IN => wrong(
            "https:// is not in this build",
            "build ws-worker with its feature `tls`, or use http:// to a TLS proxy on this machine",
        ),
        "https" => over_tcp(value, Scheme::Https, rest),
        "https+unix" => wrong(
            "there is no TLS on a unix socket",
            "write http+unix://: nobody can listen in on it",
        ),
        _ => wrong(&format!("unknown scheme `{scheme}`"), EXAMPLES),
    }
}

fn over_tcp(value: &Value, scheme: Scheme, rest: &str) -> Result<AppUrl, Wrong> {
    let wrong = |message: String, help: &str| Err(Wrong::new(&value.place, message).help(help));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return wrong(
            "an app's URL holds no name and no password".to_owned(),
            "hooks are signed instead: see `secret_file`",
        );
    }
    if authority.contains(['{', '}']) {
        return wrong(
            "a placeholder stands in the path alone".to_owned(),
            "where hooks go is never taken from a client",
        );
    }
    let (host, port) = split_authority(authority)
        .ok_or_else(|| Wrong::new(&value.place, "this is no host").help(EXAMPLES))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if scheme == Scheme::Https && !Tls::is_host(bare) {
        return wrong(
            format!("no certificate can be for the host `{host}`"),
            "write its name or its address",
        );
    }
    let usual = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
        Scheme::FastCgi => 9000,
    };
    let found: Vec<SocketAddr> = match (bare, port.unwrap_or(usual)).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return wrong(
                format!("the host `{host}` cannot be resolved: {error}"),
                "names are resolved once, at start; an address always works",
            );
        }
    };
    if found.is_empty() {
        return wrong(format!("the host `{host}` has no address"), EXAMPLES);
    }
    Ok(AppUrl {
        scheme,
        address: AppAddress::Tcp(found),
        host: match port.filter(|port| *port != usual && scheme != Scheme::FastCgi) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        },
        path: template(value, path)?,
    })
}

fn over_unix(value: &Value, scheme: Scheme, rest: &str) -> Result<AppUrl, Wrong> {
    let (socket, path) = rest.split_once(':').ok_or_else(|| {
        Wrong::new(
            &value.place,
            "the path of the app is missing behind that of its socket",
        )
        .help(match scheme {
            Scheme::Http | Scheme::Https => format!("write \"http+unix://{rest}:/\""),
            Scheme::FastCgi => format!("write \"fcgi+unix://{rest}:/srv/www/ws.php\""),
        })
    })?;
    if socket.contains(['{', '}', '?']) {
        return Err(
            Wrong::new(&value.place, "a placeholder stands in the path alone")
                .help("where hooks go is never taken from a client"),
        );
    }
    Ok(AppUrl {
        scheme,
        address: AppAddress::Unix(read::socket_path(value, socket)?),
        host: "localhost".to_owned(),
        path: template(value, path)?,
    })
}

/// Checks that FastCGI's path names a script that no client chooses.
pub(crate) fn check_script(value: &Value, url: &AppUrl) -> Result<(), Wrong> {
    let wrong = |message: &str, help: &str| Err(Wrong::new(&value.place, message).help(help));
    let (script, _) = url.script();
    if script.ends_with('/') {
        return wrong(
            "FastCGI runs a script, and none is named",
            "write its file's whole path, \"fcgi+unix:///run/php/php-fpm.sock:/srv/www/ws.php\", or name a folder by `docroot`",
        );
    }
    if script.contains("{path}") {
        return wrong(
            "a client does not choose the script",
            "put {path} behind it, \"/srv/www/ws.php/{path}\", or name a folder by `docroot`",
        );
    }
    Ok(())
}

/// Checks path and query; `{event}` and `{path}` stay as they stand.
fn template(value: &Value, path: &str) -> Result<String, Wrong> {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
    let bare = path.replace("{event}", "").replace("{path}", "");
    if bare.contains(['{', '}']) {
        return Err(Wrong::new(&value.place, "unknown placeholder")
            .help("`{event}` and `{path}` are replaced, nothing else"));
    }
    if query.contains(['{', '}']) {
        return Err(
            Wrong::new(&value.place, "a placeholder stands in the path alone")
                .help("the client's query follows by itself"),
        );
    }
    Ok(whole)
}

/// Splits `host`, `host:8080`, `[::1]` and `[::1]:8080`.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(host_end)?;
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None if port.is_empty() => None,
        None => return None,
    };
    let named = match host.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')?
            .parse::<std::net::Ipv6Addr>()
            .is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    };
    named.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Data;
    use std::path::PathBuf;

    fn read(url: &str) -> Result<AppUrl, String> {
        parse(&Value::of_flag("app", Data::Text(url.to_owned()))).map_err(Wrong::in_a_line)
    }

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        fn check(url: &str, address: &str, host: &str, path: &str) {
            let scheme = match url.split_once(':') {
                Some(("https", _)) => Scheme::Https,
                Some(("fcgi" | "fcgi+unix", _)) => Scheme::FastCgi,
                _ => Scheme::Http,
            };
            let expected = AppUrl {
                scheme,
                address: match address.strip_prefix("unix:") {
                    Some(socket) => AppAddress::Unix(PathBuf::from(socket)),
                    None => AppAddress::Tcp(vec![address.parse().unwrap()]),
                },
                host: host.to_owned(),
                path: path.to_owned(),
            };
            assert_eq!(read(url), Ok(expected));
        }
        check(
            "http://127.0.0.1:8080/ws",
            "127.0.0.1:8080",
            "127.0.0.1:8080",
            "/ws",
        );
        check("http://127.0.0.1", "127.0.0.1:80", "127.0.0.1", "/");
        check("http://127.0.0.1:80/", "127.0.0.1:80", "127.0.0.1", "/");
        check("http://127.0.0.1?a=b", "127.0.0.1:80", "127.0.0.1", "/?a=b");
        check("http://[::1]:81/a", "[::1]:81", "[::1]:81", "/a");
        check(
            "http://127.0.0.1/hooks/{event}/{path}?x=1",
            "127.0.0.1:80",
            "127.0.0.1",
            "/hooks/{event}/{path}?x=1",
        );
        if Trust::IS_BUILT_IN {
            check("https://127.0.0.1/a", "127.0.0.1:443", "127.0.0.1", "/a");
            check("https://[::1]:443", "[::1]:443", "[::1]", "/");
            check("https://[::1]:80", "[::1]:80", "[::1]:80", "/");
        }
        check(
            "http+unix:///run/app.sock:/ws",
            "unix:/run/app.sock",
            "localhost",
            "/ws",
        );
        check(
            "http+unix:///run/app.sock:",
            "unix:/run/app.sock",
            "localhost",
            "/",
        );
        check(
            "fcgi://127.0.0.1/srv/ws.php",
            "127.0.0.1:9000",
            "127.0.0.1",
            "/srv/ws.php",
        );
        check(
            "fcgi://[::1]:9001/srv/ws.php?x=1",
            "[::1]:9001",
            "[::1]",
            "/srv/ws.php?x=1",
        );
        check(
            "fcgi+unix:///run/php/fpm.sock:/srv/{event}.php",
            "unix:/run/php/fpm.sock",
            "localhost",
            "/srv/{event}.php",
        );
    }

    #[test]
    fn a_url_is_shown_as_it_was_written() {
        for url in [
            "http://127.0.0.1:8080/ws/{event}",
            "http+unix:///run/app.sock:/ws",
            "fcgi://127.0.0.1:9000/srv/ws.php",
            "fcgi+unix:///run/php/fpm.sock:/srv/ws.php/{path}",
        ] {
            assert_eq!(read(url).unwrap().to_string(), url);
        }
    }

    #[test]
    fn what_is_no_url_is_told_what_is() {
        fn check(url: &str, expected: &str) {
            assert_eq!(read(url), Err(expected.to_owned()));
        }
        let examples = "write \"http://127.0.0.1:8080/ws\" or \"http+unix:///run/app.sock:/ws\"";
        check(
            "127.0.0.1:8080",
            &format!("an app's URL begins with its scheme; {examples}"),
        );
        check("ftp://a/", &format!("unknown scheme `ftp`; {examples}"));
        check("http://", &format!("this is no host; {examples}"));
        check("http://a:b/", &format!("this is no host; {examples}"));
        check(
            "http://127.0.0.1:0/",
            &format!("this is no host; {examples}"),
        );
        check("http://[::1/", &format!("this is no host; {examples}"));
        check(
            "http://me:secret@127.0.0.1/",
            "an app's URL holds no name and no password; hooks are signed instead: see `secret_file`",
        );
        check(
            "http://{path}.example/",
            "a placeholder stands in the path alone; where hooks go is never taken from a client",
        );
        check(
            "http://127.0.0.1/?{path}",
            "a placeholder stands in the path alone; the client's query follows by itself",
        );
        check(
            "http://127.0.0.1/{id}",
            "unknown placeholder; `{event}` and `{path}` are replaced, nothing else",
        );
        check(
            "http://127.0.0.1/#a",
            "an app's URL has no fragment; leave out `#` and what follows",
        );
        check(
            "http+unix:///run/app.sock",
            "the path of the app is missing behind that of its socket; write \"http+unix:///run/app.sock:/\"",
        );
        check(
            "https+unix:///run/app.sock:/ws",
            "there is no TLS on a unix socket; write http+unix://: nobody can listen in on it",
        );
        if Trust::IS_BUILT_IN {
            check(
                "https://a..b/ws",
                "no certificate can be for the host `a..b`; write its name or its address",
            );
        } else {
            check(
                "https://app.example/ws",
                "https:// is not in this build; build ws-worker with its feature `tls`, or use http:// to a TLS proxy on this machine",
            );
        }
    }

    #[test]
    fn a_script_ends_where_its_name_does() {
        fn check(path: &str, script: &str, rest: &str) {
            let url = read(&format!("fcgi://127.0.0.1{path}")).unwrap();
            assert_eq!(url.script(), (script, rest));
        }
        check("/srv/ws.php", "/srv/ws.php", "");
        check("/srv/ws.php?a=/x.php/b", "/srv/ws.php", "?a=/x.php/b");
        check("/srv/ws.php/{event}?a", "/srv/ws.php", "/{event}?a");
        check("/srv/www.example/ws", "/srv/www.example/ws", "");
    }

    #[test]
    fn a_name_that_nobody_knows_stops_the_start() {
        let error = read("http://nowhere.invalid/ws").unwrap_err();
        assert!(
            error.starts_with("the host `nowhere.invalid` cannot be resolved: "),
            "{error}"
        );
    }
}
