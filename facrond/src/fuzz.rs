//! The fuzz target of the packets between the daemon and the gate: any packet is read without
//! a panic, and what was read is sent as it was received.

use crate::config::filter::Filter;
use crate::gate::message::{Notice, Order};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a packet as either side would.
///
/// # Panics
/// Where it is not read as it should be.
pub fn packet(bytes: &[u8]) {
    again::<Notice>(bytes);
    if let Some(Order::Rule(rule)) = again::<Order>(bytes) {
        let _ = Filter::new(rule.patterns);
    }
}

fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(bytes).ok()?;
    let sent = serde_json::to_vec(&message).expect("what was read can be sent");
    let received: T = serde_json::from_slice(&sent).expect("what is sent can be read");
    assert_eq!(serde_json::to_vec(&received).ok(), Some(sent), "it means the same");
    Some(message)
}

/// Packets in both directions.
pub fn packet_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"Rule":{"id":7,"path":"/srv/x","is_directory":true,"events":65536,"recursive":true,"patterns":{"include":["*.c"],"exclude":["/a/**"],"kind":"file"},"process_filter":{"uid":{"Is":0},"exe":{"IsNot":"/usr/bin/*"}},"decision":"command","afterwards":"nothing","deadline_ms":5000,"on_failure":"allow","cache_ms":null,"gives_file":true,"spared":["/srv/x/y"]}}"#,
        r#"{"Mark":{"rule":7,"below":{"base64":"/w=="}}}"#,
        r#"{"Decided":{"question":1,"verdict":"deny"}}"#,
        r#"{"Found":3}"#,
        r#"{"Unfit":22}"#,
        r#"{"Question":{"number":1,"rule":7,"events":65536,"deadline_ns":9,"has_file":true,"occasion":{"time_ns":1,"path":"/srv/x/a","mask":65536,"pid":9,"exe":"/bin/cat","uid":0,"is_here":true,"is_own":false}}}"#,
        r#"{"Find":{"number":1,"path":"/a","device":1,"inode":2,"handle":"x"}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_packets() {
        for seed in packet_seeds() {
            let is_packet = again::<Order>(&seed).is_some() || again::<Notice>(&seed).is_some();
            assert!(is_packet, "{}", seed.escape_ascii());
        }
    }
}
