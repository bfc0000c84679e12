//! What is printed: tables and words for people, JSON for programs.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::args::{Color, Options};

/// All that goes to standard output, at the end.
#[derive(Debug)]
pub(crate) struct Output {
    text: String,
    /// For programs.
    pub(crate) json: bool,
    color: Color,
}

impl Output {
    pub(crate) fn new(options: &Options) -> Self {
        Output { text: String::new(), json: options.json, color: options.color }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    /// Adds a remark, which a program finds in the errors.
    pub(crate) fn remark(&mut self, remark: &str) {
        if self.json {
            note(format!("note: {remark}"));
        } else {
            self.line(remark);
        }
    }

    /// Adds a text as it is.
    pub(crate) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a value as JSON.
    pub(crate) fn value(&mut self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).expect("names are texts");
        self.line(text);
    }

    /// Adds a table.
    pub(crate) fn table<const N: usize>(&mut self, header: [&str; N], rows: Vec<[String; N]>) {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header);
        for row in rows {
            table.add_row(row.map(|cell| plain(&cell)));
        }
        for line in table.to_string().lines() {
            // Every cell stands between two blanks.
            self.line(line.strip_prefix(' ').unwrap_or(line));
        }
    }

    /// Adds a line of a name and a value.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<str>) {
        let style = self.style(AnsiColor::Cyan, std::io::stdout().is_terminal());
        let mut line = String::new();
        write!(line, "{style}{name:<12}{style:#} {}", plain(value.as_ref()))
            .expect("a string takes everything");
        self.line(line);
    }

    /// Returns an error as it is shown.
    pub(crate) fn error(&self, what: &str) -> String {
        let style = self.style(AnsiColor::Red, std::io::stderr().is_terminal());
        format!("{style}error:{style:#} {}", plain(what))
    }

    fn style(&self, color: AnsiColor, is_terminal: bool) -> Style {
        let is_asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self.color {
            Color::Always => color.on_default(),
            Color::Auto if is_terminal && !is_asked_not_to => color.on_default(),
            Color::Auto | Color::Never => Style::new(),
        }
    }

    /// Prints it all. A reader that has gone away is none of our business.
    pub(crate) fn flush(&mut self) -> ExitCode {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(self.text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "error: standard output takes nothing: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Says something beside the output.
pub(crate) fn note(what: impl AsRef<str>) {
    // Who has closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "{}", plain(what.as_ref()));
}

/// Shows what a terminal would act on: keys and errors come from outside.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Returns milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a time as people say it, in its largest unit.
pub(crate) fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Returns how long ago something was.
pub(crate) fn ago(duration: Duration) -> String {
    match duration.as_secs() {
        0 => String::from("just now"),
        _ => format!("{} ago", spoken(duration)),
    }
}

/// Returns how many there are of something.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Returns a number of bytes as people say it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut left, mut unit) = (bytes, 0);
    while left >= 10_240 && unit + 1 < UNITS.len() {
        left /= 1_024;
        unit += 1;
    }
    format!("{left} {}", UNITS[unit])
}

/// Reads how long something lasts: `7d`, `12h`, `30m`, `10s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let seconds = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(
            [seconds(1), seconds(59), seconds(60), seconds(7_200), seconds(200_000)],
            ["1s", "59s", "1m", "2h", "2d"]
        );
        assert_eq!(spoken(Duration::from_millis(20)), "20 ms");
        assert_eq!(ago(Duration::from_secs(180)), "3m ago");
        assert_eq!(
            [size(0), size(10_239), size(10_240), size(20 << 30)],
            ["0 B", "10239 B", "10 KiB", "20 GiB"]
        );
        assert_eq!(duration("7d"), Some(Duration::from_secs(604_800)));
        for wrong in ["", "d", "0s", "7", "7w", "ü", "-1d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
