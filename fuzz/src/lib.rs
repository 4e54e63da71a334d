//! The fuzz targets: all that reads bytes of the kernel, of another process or of a user. Each
//! takes any bytes, and panics where they are not read as they should be.

mod mutator;

pub use mutator::Mutator;

use facron_proto::frame::{Lines, MAX_LINE};
use facron_proto::rpc::{self, Incoming, Request};

/// A target and what its inputs look like.
#[derive(Debug)]
pub struct Target {
    /// What it is run by.
    pub name: &'static str,
    /// Reads one input.
    pub run: fn(&[u8]),
    /// Good inputs, at least one.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All that there are.
pub const TARGETS: &[Target] = &[
    Target { name: "records", run: facron_sys::fuzz::records, seeds: facron_sys::fuzz::record_seeds },
    Target { name: "perf", run: facron_sys::fuzz::perf, seeds: facron_sys::fuzz::perf_seeds },
    Target { name: "connector", run: facron_sys::fuzz::connector, seeds: facron_sys::fuzz::connector_seeds },
    Target { name: "configuration", run: facron_config::fuzz::configuration, seeds: configuration },
    Target { name: "frames", run: frames, seeds: frame_seeds },
    Target { name: "packets", run: facrond::fuzz::packet, seeds: facrond::fuzz::packet_seeds },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

fn configuration() -> Vec<Vec<u8>> {
    let shipped = include_str!("../../systemd/facron.conf").replace("\n#/", "\n/");
    let odd = r#"/a\ b OPEN|close [include="*.c" name=x] "sh" -c 'x $$' \$ $@%"#;
    let lines = shipped.lines().filter(|line| line.starts_with('/')).chain([odd, "@include x*"]);
    lines.map(|line| line.as_bytes().to_vec()).chain([b"#\n/x OPEN \\\n -\n/y OPEN -".to_vec()]).collect()
}

/// A stream of bytes on the socket, read by the daemon and by a client.
fn frames(bytes: &[u8]) {
    let mut lines = Lines::new(MAX_LINE);
    // The cuts of the stream are where the first bytes say.
    let cut = bytes.first().map_or(1, |byte| usize::from(*byte).max(1));
    for chunk in bytes.chunks(cut) {
        lines.feed(chunk);
        while let Some(line) = lines.next_line() {
            let Ok(line) = line else { continue };
            assert!(line.len() <= MAX_LINE && !line.contains(&b'\n'), "one line");
            let requests = match rpc::parse(line) {
                Ok(rpc::Line::Single(request)) => vec![request],
                Ok(rpc::Line::Batch(requests)) => requests,
                Err(error) => {
                    assert!(!error.message.is_empty(), "a reason");
                    Vec::new()
                }
            };
            for request in requests {
                let _ = Request::parse(request);
            }
            let _ = Incoming::parse(line);
        }
    }
}

fn frame_seeds() -> Vec<Vec<u8>> {
    [
        &br#"{"jsonrpc":"2.0","id":1,"method":"add","params":{"path":"/a","events":"OPEN","command":["-"]}}"#[..],
        br#"[{"jsonrpc":"2.0","id":"a","method":"list","params":{}},{"jsonrpc":"2.0","method":"status"}]"#,
        br#"{"jsonrpc":"2.0","id":null,"method":"explain","params":{"path":{"base64":"L2E="},"events":["OPEN"]}}"#,
        br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"no such rule"}}"#,
        br#"{"jsonrpc":"2.0","method":"record","params":{"subscription":1,"record":{"seq":1}}}"#,
    ]
    .map(|line| [line, b"\n"].concat())
    .to_vec()
}
