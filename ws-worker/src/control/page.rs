//! The status page: one file without a script, made of a [`Overview`]. Everything that somebody else has said is escaped here once
//! more, as text of HTML. Knows no request.

use crate::counters::HookResult;
use crate::metrics::Seconds;
use crate::overview::{App, Last, Messages, Overview, Percentiles, Route};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Display, Write as _};
use std::sync::LazyLock;
use ws_proto::Version;

const FRAME: &str = include_str!("page.html");

/// The `Content-Security-Policy`: nothing at all but the page's own style, known by its digest.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = FRAME
        .split_once("<style>")
        .and_then(|(_, rest)| rest.split_once("</style>"));
    let digest = STANDARD.encode(Sha256::digest(style.map_or("", |(style, _)| style)));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// What was counted when the page was last looked at, in milliseconds since the process's beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) at: u64,
    pub(super) messages: Messages,
    pub(super) accepted: u64,
}

/// Writes the page; rates are since `before`.
pub(super) fn render(status: &Overview, now: u64, before: Option<&Look>) -> String {
    let mut body = String::with_capacity(16 * 1024);
    head(&mut body, status);
    body.push_str("<main>\n");
    cards(&mut body, status, now, before);
    routes(&mut body, status);
    apps(&mut body, &status.apps);
    ends(&mut body, status);
    refusals(&mut body, status);
    body.push_str("</main>\n");
    let _ = write!(
        body,
        "<footer>ws-worker {} · boot <code>{}</code> · since {} · this page comes anew every 5 seconds; \
         percentiles are upper bounds since the start; <code>/metrics</code> has it all</footer>",
        Html(status.version),
        Html(&status.boot),
        Clock(status.since),
    );
    FRAME
        .replace(
            "{{title}}",
            &format!("{} · ws-worker", Html(&status.worker)),
        )
        .replace("{{body}}", &body)
}

fn head(out: &mut String, status: &Overview) {
    let class = if status.state == "ready" {
        "state ready"
    } else {
        "state"
    };
    // Writing into a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "<header><h1>{}</h1><span class=\"{class}\" id=\"state\">{}</span><span>up {}</span><time>{}</time></header>",
        Html(&status.worker),
        status.state,
        Span(status.now.saturating_sub(status.since)),
        Clock(status.now),
    );
}

fn card(out: &mut String, name: &str, number: impl Display, more: impl Display) {
    let _ = writeln!(
        out,
        "<div><dt>{name}</dt><dd><b>{number}</b><small>{more}</small></dd></div>"
    );
}

fn cards(out: &mut String, status: &Overview, now: u64, before: Option<&Look>) {
    out.push_str("<dl class=\"cards\">\n");
    let open: u64 = status.routes.iter().map(Route::open).sum();
    card(
        out,
        "open sockets",
        Grouped(open),
        format_args!("{} accepted in all", Grouped(status.handshakes.accepted)),
    );
    // Without an earlier look it is the mean since the start.
    let zero = Look {
        at: 0,
        messages: Messages::default(),
        accepted: 0,
    };
    let before = before.unwrap_or(&zero);
    let passed = now.saturating_sub(before.at).max(1);
    let rate = |now: u64, before: u64| Rate(now.saturating_sub(before), passed);
    let (messages, then) = (&status.messages, &before.messages);
    card(
        out,
        "messages in",
        rate(messages.received, then.received),
        format_args!("a second · {} in all", Grouped(messages.received)),
    );
    card(
        out,
        "messages out",
        rate(messages.sent, then.sent),
        format_args!("a second · {} in all", Grouped(messages.sent)),
    );
    card(
        out,
        "handshakes",
        rate(status.handshakes.accepted, before.accepted),
        format_args!(
            "a second · {} in flight",
            Grouped(status.handshakes.in_flight)
        ),
    );
    card(
        out,
        "buffers",
        Bytes(status.buffer_bytes.now),
        format_args!("of {}", Bytes(status.buffer_bytes.limit)),
    );
    card(
        out,
        "memory",
        Bytes(status.process.resident_bytes.unwrap_or_default()),
        format_args!(
            "{} of {} descriptors",
            Grouped(status.process.open_fds.unwrap_or_default()),
            Grouped(status.process.max_fds.unwrap_or_default())
        ),
    );
    card(
        out,
        "ping, half below",
        Half(&status.ping),
        Most(&status.ping),
    );
    card(
        out,
        "loop lag, half below",
        Half(&status.loop_lag),
        Most(&status.loop_lag),
    );
    out.push_str("</dl>\n");
}

fn routes(out: &mut String, status: &Overview) {
    out.push_str(
        "<h2>Sockets</h2>\n<div class=\"table\"><table id=\"routes\"><thead><tr><th>route</th>",
    );
    for version in Version::ALL {
        let _ = write!(out, "<th>{}</th>", version.name());
    }
    out.push_str("<th>open</th><th>messages in</th><th>out</th><th>bytes in</th><th>out</th></tr></thead><tbody>\n");
    for route in &status.routes {
        let _ = write!(out, "<tr><th><code>{}</code></th>", Html(&route.path));
        for version in Version::ALL {
            let open = route
                .sockets
                .get(version.name())
                .copied()
                .unwrap_or_default();
            number(out, open);
        }
        number(out, route.open());
        number(out, route.messages.received);
        number(out, route.messages.sent);
        let (received, sent) = (route.messages.received_bytes, route.messages.sent_bytes);
        let _ = writeln!(
            out,
            "<td>{}</td><td>{}</td></tr>",
            Bytes(received),
            Bytes(sent)
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn number(out: &mut String, number: u64) {
    let class = if number == 0 { " class=\"zero\"" } else { "" };
    let _ = write!(out, "<td{class}>{}</td>", Grouped(number));
}

fn trouble(out: &mut String, number: u64) {
    let class = if number == 0 { "zero" } else { "bad" };
    let _ = write!(out, "<td class=\"{class}\">{}</td>", Grouped(number));
}

fn apps(out: &mut String, apps: &[App]) {
    if apps.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Hooks</h2>\n<div class=\"table\"><table id=\"apps\"><thead><tr><th>app</th><th>half below</th><th>99 of 100</th>\
         <th>in flight</th><th>queued</th><th>taken</th><th>refused</th><th>again</th><th>failed</th><th>breaker</th></tr></thead><tbody>\n",
    );
    for app in apps {
        let _ = write!(
            out,
            "<tr><th><code>{}</code></th><td>{}</td><td>{}</td><td>{} of {}</td>",
            Html(&app.app),
            Half(&app.duration),
            Limit(app.duration.p99_ms, app.duration.count),
            Grouped(app.in_flight.now),
            Grouped(app.in_flight.limit),
        );
        number(out, app.queued_messages);
        number(out, app.results(HookResult::Taken));
        number(out, app.results(HookResult::Refused));
        trouble(out, app.results(HookResult::Again));
        let failed = HookResult::FAILED.map(|result| app.results(result));
        trouble(out, failed.iter().sum());
        out.push_str(if app.breaker_open {
            "<td><span class=\"pill bad\">open</span></td></tr>\n"
        } else {
            "<td><span class=\"pill good\">closed</span></td></tr>\n"
        });
    }
    out.push_str("</tbody></table></div>\n");
}

fn ends(out: &mut String, status: &Overview) {
    out.push_str("<h2>Last closes</h2>\n<div class=\"table\">");
    if status.last.is_empty() {
        out.push_str("<p class=\"none\">None yet.</p></div>\n");
        return;
    }
    out.push_str(
        "<table id=\"last\"><thead><tr><th>when</th><th class=\"left\">code</th><th class=\"left\">reason, by</th>\
         <th class=\"left\">path, origin</th><th class=\"left\">client</th><th>lasted</th><th>in</th><th>out</th></tr></thead>\
         <tbody>\n",
    );
    for last in &status.last {
        end(out, status.now, last);
    }
    out.push_str("</tbody></table></div>\n");
}

fn end(out: &mut String, now: u64, last: &Last) {
    let class = if last.clean { "pill" } else { "pill bad" };
    let code = last
        .code
        .map_or_else(|| "none".to_owned(), |code| code.to_string());
    let _ = write!(
        out,
        "<tr><td>{} ago</td><td class=\"code\"><span class=\"{class}\">{code}</span></td><td class=\"left\">{}<small>{}</small></td>\
         <td class=\"left\"><code>{}</code><small><code>{}</code></small></td><td class=\"left\"><code>{}</code><small>{}</small></td>\
         <td>{}</td>",
        Span(now.saturating_sub(last.at)),
        Html(&last.reason),
        last.by,
        Html(&last.path),
        Html(last.origin.as_deref().unwrap_or_default()),
        Html(&last.peer),
        last.version,
        Span(last.seconds as u64),
    );
    number(out, last.messages_in);
    number(out, last.messages_out);
    out.push_str("</tr>\n");
}

fn refusals(out: &mut String, status: &Overview) {
    let refused = status.handshakes.refused.iter();
    let refused = refused.map(|(reason, count)| ("refused", *reason, *count));
    let dropped = status.dropped.iter();
    let dropped = dropped.map(|(reason, count)| ("dropped", *reason, *count));
    let mut all = refused.chain(dropped).peekable();
    if all.peek().is_none() {
        return;
    }
    out.push_str(
        "<h2>Refused and dropped</h2>\n<div class=\"table\"><table id=\"refused\"><tbody>\n",
    );
    for (what, reason, count) in all {
        let count = Grouped(count);
        let _ = writeln!(out, "<tr><th>{what}: {reason}</th><td>{count}</td></tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

/// Text that cannot become markup.
struct Html<'a>(&'a str);

impl Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '{' => f.write_str("&#123;")?, // The frame's own marks.
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// 1 234 567, with spaces that do not break.
struct Grouped(u64);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// So many in so many milliseconds, as so many a second.
struct Rate(u64, u64);

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(10_000) / self.1;
        if tenths >= 100 {
            return Grouped(tenths / 10).fmt(f);
        }
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

/// Bytes in the largest unit that fits.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut size = self.0 as f64;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < units.len() {
            size /= 1024.0;
            unit += 1;
        }
        let digits = usize::from(unit > 0 && size < 100.0);
        let name = units.get(unit).copied().unwrap_or_default();
        write!(f, "{size:.digits$}\u{202f}{name}")
    }
}

/// Seconds as people say them.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..60 => write!(f, "{seconds}\u{202f}s"),
            seconds @ 60..3600 => write!(f, "{}\u{202f}min", seconds / 60),
            seconds @ 3600..172_800 => write!(f, "{}\u{202f}h", seconds / 3600),
            seconds => write!(f, "{}\u{202f}d", seconds / 86_400),
        }
    }
}

/// A moment, in UTC. [Howard Hinnant, chrono-compatible date algorithms]
struct Clock(u64);

impl Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        let shifted = days + 719_468; // From the first of March of the year 0.
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        write!(
            f,
            "{}-{month:02}-{date:02} {:02}:{:02}:{:02} UTC",
            year + era * 400 + carry,
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}

/// An upper bound, in the unit that fits.
struct Limit(Option<u64>, u64);

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (_, 0) => f.write_str("–"),
            (None, _) => f.write_str("over 30\u{202f}s"),
            (Some(milliseconds @ 0..1000), _) => write!(f, "{milliseconds}\u{202f}ms"),
            (Some(milliseconds), _) => write!(f, "{}\u{202f}s", Seconds(milliseconds)),
        }
    }
}

struct Half<'a>(&'a Percentiles);

impl Display for Half<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Limit(self.0.p50_ms, self.0.count).fmt(f)
    }
}

struct Most<'a>(&'a Percentiles);

impl Display for Most<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.count == 0 {
            return f.write_str("none measured yet");
        }
        let most = Limit(self.0.p99_ms, self.0.count);
        write!(
            f,
            "99 of 100 below {most} · {} measured",
            Grouped(self.0.count)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: impl Display, expected: &str) {
        assert_eq!(value.to_string().replace('\u{202f}', " "), expected);
    }

    #[test]
    fn numbers_are_written_for_people() {
        check(Grouped(0), "0");
        check(Grouped(1_234_567), "1 234 567");
        check(Rate(1, 5_000), "0.2");
        check(Rate(12_345, 1_000), "12 345");
        check(Bytes(1023), "1023 B");
        check(Bytes(1536), "1.5 KiB");
        check(Bytes(256 << 20), "256 MiB");
        check(Span(59), "59 s");
        check(Span(7_300), "2 h");
        check(Clock(0), "1970-01-01 00:00:00 UTC");
        check(Clock(1_795_222_034), "2026-11-21 00:47:14 UTC");
        check(Clock(951_782_400), "2000-02-29 00:00:00 UTC");
        check(Limit(Some(2_500), 1), "2.5 s");
        check(Limit(None, 1), "over 30 s");
        check(Limit(None, 0), "–");
    }

    #[test]
    fn text_cannot_become_markup() {
        check(
            Html("<script>'\"&{{body}}"),
            "&lt;script&gt;&#39;&quot;&amp;&#123;&#123;body}}",
        );
    }

    #[test]
    fn the_policy_allows_the_style_of_the_page_and_nothing_else() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        assert_eq!(FRAME.matches("<style>").count(), 1);
        for word in ["<script", "http://", "https://", "url(", "style=\""] {
            assert!(!FRAME.contains(word), "{word}");
        }
    }
}
