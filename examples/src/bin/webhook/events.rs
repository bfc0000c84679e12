//! The input: events, one JSON object a line.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A webhook as GitHub delivers it: two headers and the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Webhook {
    /// `X-GitHub-Delivery`: the same each time that the event is delivered.
    pub(crate) delivery: String,
    /// `X-GitHub-Event`.
    pub(crate) event: String,
    pub(crate) payload: Value,
}

/// An event of the input.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) line: usize,
    pub(crate) webhook: Webhook,
}

/// What the input holds.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) events: Vec<Event>,
    pub(crate) bad: Vec<BadLine>,
}

/// A line that is no event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: usize,
    pub(crate) why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl Input {
    /// Reads events; empty lines mean nothing.
    pub(crate) fn parse(bytes: &[u8]) -> Input {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut input = Input::default();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match webhook(text) {
                Ok(webhook) => input.events.push(Event { line, webhook }),
                Err(why) => input.bad.push(BadLine { line, why }),
            }
        }
        input
    }

    /// Returns how many different events there are.
    pub(crate) fn distinct(&self) -> usize {
        self.events.iter().map(|event| &event.webhook.delivery).collect::<HashSet<_>>().len()
    }
}

fn webhook(text: &[u8]) -> Result<Webhook, String> {
    let value: Value =
        serde_json::from_slice(text).map_err(|error| format!("no JSON: {}", position(&error)))?;
    let Value::Object(mut fields) = value else {
        return Err(String::from(
            "not a JSON object; an event is {\"delivery\": …, \"event\": …, \"payload\": …}",
        ));
    };
    let mut text_of = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        Some(Value::String(_)) => Err(format!("`{name}` is blank")),
        Some(_) => Err(format!("`{name}` is no text")),
        None => Err(format!("no `{name}`")),
    };
    let (delivery, event) = (text_of("delivery")?, text_of("event")?);
    let payload = fields.remove("payload").ok_or("no `payload`")?;
    Ok(Webhook { delivery, event, payload })
}

/// Tells what serde_json found wrong, with the column alone: its line is always 1.
fn position(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_told_with_its_number_and_the_others_are_kept() {
        let text = b"{\"delivery\":\"a\",\"event\":\"push\",\"payload\":{}}\r\n\
            \n\
            {\"delivery\":\"b\",\n\
            [1]\n\
            {\"event\":\"push\",\"payload\":{}}\n\
            {\"delivery\":\"  \",\"event\":\"push\",\"payload\":{}}\n\
            {\"delivery\":7,\"event\":\"push\",\"payload\":{}}\n\
            {\"delivery\":\"c\",\"payload\":{}}\n\
            {\"delivery\":\"d\",\"event\":\"push\"}\n\
            \xff\xfe\n\
            {\"delivery\":\"e\",\"event\":\"push\",\"payload\":null}";
        let input = Input::parse(text);
        let good: Vec<_> = input.events.iter().map(|e| (e.line, e.webhook.delivery.as_str())).collect();
        assert_eq!(good, [(1, "a"), (11, "e")]);
        let bad: Vec<_> = input.bad.iter().map(ToString::to_string).collect();
        assert_eq!(bad.len(), 8, "{bad:#?}");
        assert!(bad[0].starts_with("line 3: no JSON: EOF") && bad[0].ends_with("at column 16"), "{}", bad[0]);
        assert!(bad[1].starts_with("line 4: not a JSON object"), "{}", bad[1]);
        assert_eq!(bad[2], "line 5: no `delivery`");
        assert_eq!(bad[3], "line 6: `delivery` is blank");
        assert_eq!(bad[4], "line 7: `delivery` is no text");
        assert_eq!(bad[5], "line 8: no `event`");
        assert_eq!(bad[6], "line 9: no `payload`");
        assert!(bad[7].starts_with("line 10: no JSON"), "{}", bad[7]);
    }

    #[test]
    fn nothing_has_no_events() {
        let input = Input::parse(b"\n \n");
        assert!(input.events.is_empty() && input.bad.is_empty());
    }

    #[test]
    fn two_lines_of_one_delivery_are_one_event() {
        let line = "{\"delivery\":\"a\",\"event\":\"push\",\"payload\":{}}\n";
        assert_eq!(Input::parse(line.repeat(2).as_bytes()).distinct(), 1);
    }
}
