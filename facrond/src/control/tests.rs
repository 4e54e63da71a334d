//! The whole of control on a real socket, with an engine that only pretends.

mod fake;

use super::follow::{MAX_QUEUED, MAX_SUBSCRIPTIONS};
use super::shares::{MAX_CONNECTIONS, Shares};
use super::{Access, Caller, Socket, channel, connection};
use facron_proto::frame::MAX_LINE;
use fake::Fake;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Runs a test against a daemon of its own, for at most a minute.
fn with_daemon<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = Socket::bind(&path).unwrap();
        let (engine, mut calls) = channel::<Fake>();
        let owner = async {
            let mut fake = Fake::default();
            while let Some(call) = calls.recv().await {
                call(&mut fake);
            }
        };
        tokio::select! {
            never = socket.serve(engine) => match never {},
            () = owner => panic!("control let go of the engine"),
            outcome = tokio::time::timeout(Duration::from_secs(60), test(path.clone())) => outcome.unwrap(),
        }
    });
}

struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    async fn connect(path: &PathBuf) -> Self {
        let (reader, writer) = UnixStream::connect(path).await.unwrap().into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    async fn ask(&mut self, line: impl AsRef<str>) -> Value {
        self.send(format!("{}\n", line.as_ref())).await;
        self.line().await
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let reply = self
            .ask(json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).to_string())
            .await;
        assert_eq!(reply["id"], 0, "{reply}");
        reply["result"].clone()
    }

    async fn add(&mut self) {
        self.call("add", json!({"path": "/a", "events": "OPEN", "command": ["-"]})).await;
    }

    /// Asks for something without reading the reply.
    async fn request(&mut self, method: &str) {
        let line = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": {"rules": []}});
        self.send(format!("{line}\n")).await;
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).await.is_err() || rest.is_empty()
    }
}

/// The examples of the specification's chapter 7, in facron's methods.
#[test]
fn the_examples_of_the_specification() {
    with_daemon(|path| async move {
        let mut client = Client::connect(&path).await;
        let invalid = json!({"code": -32600, "id": null});
        let parse = json!({"code": -32700, "id": null});
        let version = json!({"code": null, "id": "1"});
        for (request, expected) in [
            (r#"{"jsonrpc": "2.0", "method": "version", "id": "1"}"#, version.clone()),
            (r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#, json!({"code": -32601, "id": "1"})),
            (
                r#"{"jsonrpc": "2.0", "method": "show", "params": [23], "id": 3}"#,
                json!({"code": -32602, "id": 3}),
            ),
            (r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#, parse.clone()),
            (r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#, invalid.clone()),
            (r#"[{"jsonrpc": "2.0", "method": "version", "id": "1"}, {"jsonrpc": "2.0", "method"]"#, parse),
            ("[]", invalid.clone()),
            ("[1]", json!([invalid])),
            ("[1,2,3]", json!([invalid, invalid, invalid])),
            (
                r#"[{"jsonrpc": "2.0", "method": "version", "id": "1"},
                    {"jsonrpc": "2.0", "method": "pause", "params": {"rules": [7]}},
                    {"foo": "boo"},
                    {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                    {"jsonrpc": "2.0", "method": "list", "id": null}]"#,
                json!([version, invalid, {"code": -32601, "id": "5"}, {"code": null, "id": null}]),
            ),
        ] {
            let reply = client.ask(request.replace('\n', " ")).await;
            let short = |reply: &Value| {
                assert_eq!(reply["jsonrpc"], "2.0");
                assert!(reply.get("result").is_some() != reply.get("error").is_some(), "{reply}");
                json!({"code": reply["error"]["code"], "id": reply["id"]})
            };
            let got = match &reply {
                Value::Array(replies) => replies.iter().map(short).collect(),
                reply => short(reply),
            };
            assert_eq!(got, expected, "{request}");
        }
    });
}

#[test]
fn notifications_are_done_and_not_answered() {
    with_daemon(|path| async move {
        let mut client = Client::connect(&path).await;
        let add = json!({"jsonrpc": "2.0", "method": "add", "params": {"path": "/a", "events": ["OPEN"], "command": ["-"]}});
        let unknown = json!({"jsonrpc": "2.0", "method": "foobar"});
        client.send(format!("{add}\n{unknown}\n[{add}, {unknown}]\n")).await;
        assert_eq!(client.call("list", json!({})).await.as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_line_that_is_too_long_costs_only_itself() {
    with_daemon(|path| async move {
        let mut client = Client::connect(&path).await;
        let reply = client.ask("x".repeat(2 * MAX_LINE)).await;
        assert_eq!((&reply["error"]["code"], &reply["id"]), (&json!(-32600), &Value::Null));
        assert_eq!(client.call("list", json!({})).await, json!([]));
    });
}

#[test]
fn garbage_nesting_and_half_lines_hurt_nobody() {
    with_daemon(|path| async move {
        let mut half = Client::connect(&path).await;
        half.send(br#"{"jsonrpc": "2.0", "method": "add", "params": {"path"#).await;
        drop(half);
        let mut client = Client::connect(&path).await;
        for garbage in [
            b"\x00\xff\xfe\n".to_vec(),
            b"\n".to_vec(),
            vec![0x80; 5000].into_iter().chain([b'\n']).collect(),
            ("[".repeat(500_000) + "\n").into_bytes(),
            ("{\"a\":".repeat(200_000) + "\n").into_bytes(),
        ] {
            client.send(garbage).await;
            assert_eq!(client.line().await["error"]["code"], -32700);
        }
        let reply = client.ask("[".repeat(500_000) + &"]".repeat(500_000)).await;
        assert_eq!(reply[0]["error"]["code"], -32600);
        assert_eq!(client.call("list", json!({})).await, json!([]));
    });
}

#[test]
fn requests_without_waiting_are_answered_in_order() {
    with_daemon(|path| async move {
        let Client { mut reader, mut writer } = Client::connect(&path).await;
        let sender = tokio::spawn(async move {
            for id in 0..10_000 {
                let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"version\"}}\n");
                writer.write_all(line.as_bytes()).await.unwrap();
            }
            // the sending side closes, and still all of it is answered
        });
        let mut line = String::new();
        for id in 0..10_000 {
            line.clear();
            reader.read_line(&mut line).await.unwrap();
            assert!(line.starts_with(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},")), "{line}");
        }
        sender.await.unwrap();
        assert_eq!(reader.read_line(&mut line).await.unwrap(), 0);
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_only_itself() {
    with_daemon(|path| async move {
        let mut deaf = Client::connect(&path).await;
        let flood = async {
            let line = format!("{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": "foobar"}));
            loop {
                deaf.send(&line).await;
            }
        };
        let never: Result<(), _> = tokio::time::timeout(Duration::from_millis(300), flood).await;
        never.unwrap_err();
        assert_eq!(Client::connect(&path).await.call("list", json!({})).await, json!([]));
    });
}

#[test]
fn many_connections_and_then_no_more() {
    with_daemon(|path| async move {
        let mut clients = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            clients.push(Client::connect(&path).await);
        }
        for client in &mut clients {
            assert_eq!(client.call("list", json!({})).await, json!([]));
        }
        let mut refused = Client::connect(&path).await;
        assert_eq!(refused.line().await["error"]["code"], -32005);
        assert!(refused.is_closed().await);
        clients.truncate(1);
        // until the daemon has seen the others go, it may refuse at any point
        let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}\n";
        let mut reply = String::new();
        while !reply.contains("result") {
            let Client { mut reader, mut writer } = Client::connect(&path).await;
            let _ = writer.write_all(request).await;
            reply.clear();
            let _ = reader.read_line(&mut reply).await;
        }
    });
}

#[test]
fn followers_get_records_until_they_unsubscribe() {
    with_daemon(|path| async move {
        let (mut follower, mut other) = (Client::connect(&path).await, Client::connect(&path).await);
        let reply = follower.call("tail", json!({"follow": true})).await;
        assert_eq!(reply, json!({"records": [], "subscription": 1}));
        other.add().await;
        let told = follower.line().await;
        assert_eq!((&told["method"], &told["params"]["subscription"]), (&json!("record"), &json!(1)));
        assert_eq!(told["params"]["record"]["seq"], 1);
        assert_eq!(follower.call("unsubscribe", json!({"subscription": 1})).await, json!({}));
        other.add().await;
        assert_eq!(follower.call("list", json!({})).await.as_array().unwrap().len(), 2);
        let unknown = r#"{"jsonrpc":"2.0","id":1,"method":"unsubscribe","params":{"subscription":1}}"#;
        assert_eq!(follower.ask(unknown).await["error"]["code"], -32000);
        assert_eq!(other.call("status", json!({})).await["marks"]["followers"], 0);
    });
}

#[test]
fn a_connection_has_a_limit_of_subscriptions_and_takes_them_along() {
    with_daemon(|path| async move {
        let mut follower = Client::connect(&path).await;
        for _ in 0..MAX_SUBSCRIPTIONS {
            follower.call("tail", json!({"follow": true})).await;
        }
        let more = r#"{"jsonrpc":"2.0","id":1,"method":"tail","params":{"follow":true}}"#;
        assert_eq!(follower.ask(more).await["error"]["code"], -32005);
        drop(follower);
        let mut other = Client::connect(&path).await;
        loop {
            other.add().await;
            if other.call("status", json!({})).await["marks"]["followers"] == 0 {
                break;
            }
        }
    });
}

#[test]
fn a_follower_that_does_not_read_is_told_what_it_missed() {
    const ADDED: u64 = 3 * MAX_QUEUED as u64;
    with_daemon(|path| async move {
        let (mut slow, mut other) = (Client::connect(&path).await, Client::connect(&path).await);
        slow.call("tail", json!({"follow": true})).await;
        for _ in 0..ADDED {
            other.add().await;
        }
        let (mut seen, mut missed) = (0, 0);
        while seen + missed < ADDED {
            let told = slow.line().await;
            if told["method"] == "lagged" {
                missed += told["params"]["missed"].as_u64().unwrap();
            } else {
                seen += 1;
                assert_eq!(told["params"]["record"]["seq"], seen + missed);
            }
        }
        assert!(missed > 0);
    });
}

#[test]
fn readers_read_and_strangers_do_nothing() {
    let answer = |access, line: &'static str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (engine, mut calls) = channel::<Fake>();
            let owner = async {
                while let Some(call) = calls.recv().await {
                    call(&mut Fake::default());
                }
            };
            let (ours, theirs) = UnixStream::pair().unwrap();
            let client = async {
                let (mut reader, mut writer) = ours.into_split();
                writer.write_all(line.as_bytes()).await.unwrap();
                drop(writer);
                let mut reply = String::new();
                reader.read_to_string(&mut reply).await.unwrap();
                serde_json::from_str::<Value>(&reply).unwrap()["error"]["code"].clone()
            };
            let serving = connection::serve(
                theirs,
                engine,
                Caller::new(1, access, Shares::default().connect(1, access).unwrap()),
            );
            let (code, served, ()) = tokio::join!(client, serving, owner);
            served.unwrap();
            code
        })
    };
    let list = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}\n";
    let reload = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"reload\"}\n";
    let unknown = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"foobar\"}\n";
    let codes = |access| [list, reload, unknown].map(|line| answer(access, line).as_i64().unwrap_or(0));
    assert_eq!(codes(Access::Full), [0, 0, -32601]);
    assert_eq!(codes(Access::Read), [0, -32003, -32601]);
    assert_eq!(codes(Access::Denied), [-32003; 3]);
}

#[test]
fn a_reader_that_does_not_fetch_its_reply_is_disconnected() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (engine, _calls) = channel::<Fake>();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let place = Shares::default().connect(1, Access::Read).unwrap();
        let batch = format!("[{}]\n", vec!["1"; 1000].join(","));
        let flood = async {
            while ours.write_all(batch.as_bytes()).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = connection::serve(theirs, engine, Caller::new(1, Access::Read, place)) => {
                assert_eq!(served.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
            }
            () = flood => unreachable!("it never ends"),
        }
    });
}

#[test]
fn a_reply_that_comes_later_holds_up_nobody_else() {
    with_daemon(|path| async move {
        let (mut waiting, mut other) = (Client::connect(&path).await, Client::connect(&path).await);
        waiting.request("remove").await;
        waiting.request("version").await;
        // The engine takes calls in their order: this one comes after `remove` or before it.
        other.call("version", json!({})).await;
        let replies = async { (waiting.line().await, waiting.line().await) };
        let resumes = async {
            loop {
                other.call("resume", json!({"rules": []})).await;
                tokio::task::yield_now().await;
            }
        };
        let (first, second) = tokio::select! { replies = replies => replies, never = resumes => never };
        assert_eq!(first["result"], json!({"rules": []}));
        assert_eq!(second["result"]["facrond"], "0");
    });
}
