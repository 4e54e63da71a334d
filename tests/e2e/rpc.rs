//! The socket's clients may send, or not read, what they like.

use crate::harness::{Place, Rpc, code, err, wait_until};
use serde_json::{Value, json};
use std::io::Write;
use std::thread;

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const TOO_MANY: i64 = -32005;

/// What a daemon may grow by under abuse.
const GROWTH: u64 = 16 << 20;

/// What comes back for one line; `None` if nothing does. Whatever it was, the
/// connection goes on.
fn answer(rpc: &mut Rpc, line: &str) -> Option<Value> {
    rpc.send(format!("{line}\n").as_bytes());
    rpc.send(b"{\"jsonrpc\":\"2.0\",\"method\":\"version\",\"id\":\"end\"}\n");
    let first = rpc.receive().unwrap();
    if first["id"] == "end" {
        return None;
    }
    assert_eq!(rpc.receive().unwrap()["id"], "end");
    Some(first)
}

/// The code and the id of an error.
fn error(reply: &Value) -> (i64, Value) {
    assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
    assert!(reply.get("result").is_none() && reply["error"]["message"].is_string(), "{reply}");
    (reply["error"]["code"].as_i64().unwrap(), reply["id"].clone())
}

/// The examples of chapter 7, their methods replaced where a result is due.
#[test]
fn the_specifications_examples_are_answered_as_it_says() {
    let place = Place::new();
    let _daemon = place.start();
    let mut rpc = place.rpc();
    let mut answer = |line: &str| answer(&mut rpc, line);

    // rpc call with named parameters
    let reply = answer(r#"{"jsonrpc": "2.0", "method": "version", "params": {}, "id": 3}"#).unwrap();
    assert_eq!((&reply["jsonrpc"], &reply["id"]), (&"2.0".into(), &3.into()));
    assert!(reply.get("error").is_none());
    assert_eq!(reply["result"], json!({"facrond": env!("CARGO_PKG_VERSION"), "protocol": 1}));
    // with positional parameters, which no method of ours takes
    let reply = answer(r#"{"jsonrpc": "2.0", "method": "show", "params": [42, 23], "id": 1}"#).unwrap();
    assert_eq!(error(&reply), (INVALID_PARAMS, 1.into()));
    // a notification
    assert_eq!(answer(r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#), None);
    assert_eq!(answer(r#"{"jsonrpc": "2.0", "method": "foobar"}"#), None);
    // rpc call of non-existent method
    let reply = answer(r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#).unwrap();
    assert_eq!(error(&reply), (METHOD_NOT_FOUND, "1".into()));
    // rpc call with invalid JSON
    let reply = answer(r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#).unwrap();
    assert_eq!(error(&reply), (PARSE_ERROR, Value::Null));
    // rpc call with invalid Request object
    let reply = answer(r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#).unwrap();
    assert_eq!(error(&reply), (INVALID_REQUEST, Value::Null));
    // rpc call Batch, invalid JSON
    let line =
        r#"[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]"#;
    assert_eq!(error(&answer(line).unwrap()), (PARSE_ERROR, Value::Null));
    // rpc call with an empty Array
    assert_eq!(error(&answer("[]").unwrap()), (INVALID_REQUEST, Value::Null));
    // with an invalid Batch (but not empty), with invalid Batch
    for (line, count) in [("[1]", 1), ("[1,2,3]", 3)] {
        let replies = answer(line).unwrap();
        let errors: Vec<_> = replies.as_array().unwrap().iter().map(error).collect();
        assert_eq!(errors, vec![(INVALID_REQUEST, Value::Null); count]);
    }
    // rpc call Batch
    let line = r#"[
        {"jsonrpc": "2.0", "method": "list", "params": {}, "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "version", "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "status", "id": null}]"#;
    let replies = answer(&line.replace('\n', "")).unwrap();
    let ids: Vec<_> = replies.as_array().unwrap().iter().map(|reply| reply["id"].clone()).collect();
    assert_eq!(ids, [json!("1"), json!("2"), Value::Null, json!("5"), Value::Null]);
    assert_eq!(replies[0]["result"], json!([]));
    assert_eq!(error(&replies[2]), (INVALID_REQUEST, Value::Null));
    assert_eq!(error(&replies[3]), (METHOD_NOT_FOUND, "5".into()));
    assert!(replies[4]["result"]["uptime_ms"].is_u64());
    // rpc call Batch (all notifications)
    let line = r#"[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]}, {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]"#;
    assert_eq!(answer(line), None);
}

#[test]
fn errors_say_what_is_wrong() {
    let place = Place::new();
    let _daemon = place.start();
    let mut rpc = place.rpc();
    let mut code =
        |method: &str, params: Value| rpc.call(method, &params).unwrap_err()["code"].as_i64().unwrap();
    assert_eq!(code("show", json!({})), INVALID_PARAMS);
    assert_eq!(code("show", json!({"rule": 7})), -32001);
    assert_eq!(code("remove", json!({"rules": ["no"]})), -32001);
    assert_eq!(code("add", json!({"path": "relative", "events": "OPEN", "command": ["-"]})), -32002);
    assert_eq!(code("add", json!({"path": "/tmp", "events": [], "command": ["-"]})), INVALID_PARAMS);
    assert_eq!(code("tail", json!({"limit": -1})), INVALID_PARAMS);
    assert_eq!(code("unsubscribe", json!({"subscription": 7})), -32000);
    // members that nobody knows are ignored
    assert!(rpc.call("version", &json!({"more": [1, {"deep": null}]})).is_ok());
}

#[test]
fn garbage_half_lines_and_long_lines_harm_nobody() {
    let place = Place::new();
    let daemon = place.start();
    let mut other = place.rpc();
    other.call("version", &json!({})).unwrap();
    let before = daemon.peak_memory();

    // a line of 2 MB, and an endless one
    let mut rpc = place.rpc();
    let long = "x".repeat(2 << 20);
    assert_eq!(error(&answer(&mut rpc, &long).unwrap()), (INVALID_REQUEST, Value::Null));
    let request = format!(r#"{{"jsonrpc":"2.0","method":"version","params":{{"x":"{long}"}},"id":1}}"#);
    assert_eq!(error(&answer(&mut rpc, &request).unwrap()), (INVALID_REQUEST, Value::Null));
    let mut rpc = place.rpc();
    for _ in 0..64 {
        rpc.send(&vec![b'['; 1 << 20]);
    }
    assert_eq!(error(&rpc.receive().unwrap()), (INVALID_REQUEST, Value::Null));
    drop(rpc);

    // nested as deeply as a line can be
    let mut rpc = place.rpc();
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    let (code, _) = error(
        &answer(&mut rpc, &deep)
            .map(|reply| if reply.is_array() { reply[0].clone() } else { reply })
            .unwrap(),
    );
    assert!([PARSE_ERROR, INVALID_REQUEST].contains(&code), "{code}");

    // half a line, and gone
    for _ in 0..50 {
        place.rpc().send(b"{\"jsonrpc\":\"2.0\",\"method\":\"rel");
    }
    let mut rpc = place.rpc();
    rpc.send(b"{\"jsonrpc\":\"2.0\",\"method\":\"version\",\"id\":1}");
    rpc.finish();
    assert_eq!(rpc.receive(), None, "a line ends with a newline");

    // binary garbage: an error for each line of it
    let mut rpc = place.rpc();
    let garbage: Vec<u8> =
        (0u32..200_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let lines = garbage.split(|byte| *byte == b'\n').count();
    let mut sender = rpc.sender();
    let sending = thread::spawn(move || {
        sender.write_all(&garbage).unwrap();
        sender.write_all(b"\n").unwrap();
    });
    for _ in 0..lines {
        assert_eq!(error(&rpc.receive().unwrap()).1, Value::Null);
    }
    sending.join().unwrap();

    other.call("status", &json!({})).unwrap();
    let grown = daemon.peak_memory() - before;
    assert!(grown < GROWTH, "{grown} bytes");
}

#[test]
fn ten_thousand_requests_of_one_connection_are_answered_in_order() {
    let place = Place::new();
    let daemon = place.start();
    let mut rpc = place.rpc();
    rpc.call("status", &json!({})).unwrap();
    let before = daemon.peak_memory();
    let mut sender = rpc.sender();
    let sending = thread::spawn(move || {
        for id in 0..10_000 {
            let request = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"status\",\"id\":{id}}}\n");
            sender.write_all(request.as_bytes()).unwrap();
        }
    });
    for id in 0..10_000 {
        let reply = rpc.receive().unwrap();
        assert_eq!(reply["id"], id);
        assert!(reply["result"].is_object());
    }
    sending.join().unwrap();
    let grown = daemon.peak_memory() - before;
    assert!(grown < GROWTH, "{grown} bytes");
}

/// What a new connection hears; a refusal comes without being asked for.
fn ask_version(rpc: &mut Rpc) -> Value {
    // it may be closed already
    let _ = rpc.sender().write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"version\",\"id\":1}\n");
    rpc.receive().expect("closed without a word")
}

#[test]
fn two_hundred_connections_are_served_and_too_many_are_refused() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] -\n", place.play("")));
    let daemon = place.start();
    let mut connections: Vec<_> = (0..200).map(|_| place.rpc()).collect();
    for rpc in &mut connections {
        rpc.call("version", &json!({})).unwrap();
    }
    place.write("file");
    wait_until("the rule to fire", || {
        connections[199].call("show", &json!({"rule": "rule"})).unwrap()["fired"] == 1
    });
    let mut refused = 0;
    for _ in 0..100 {
        let mut rpc = place.rpc();
        match ask_version(&mut rpc) {
            reply if reply.get("result").is_some() => connections.push(rpc),
            reply => {
                assert_eq!(error(&reply), (TOO_MANY, Value::Null));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "there is a limit");
    let output = place.ctl(&["list"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(err(&output).contains("connections are open already"), "{output:?}");
    connections[0].call("status", &json!({})).unwrap();
    drop(connections);
    wait_until("room again", || ask_version(&mut place.rpc()).get("result").is_some());
    daemon.wait_for_log("connection refused");
}

#[test]
fn a_follower_that_never_reads_is_told_what_it_missed() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] -\n", place.play("")));
    let daemon = place.start();
    let (mut lazy, mut busy) = (place.rpc(), place.rpc());
    let follow = json!({"limit": 0, "follow": true, "rule": "rule"});
    let subscription = lazy.call("tail", &follow).unwrap()["subscription"].clone();
    busy.call("tail", &follow).unwrap();
    let reading = thread::spawn(move || {
        let mut seen = 0;
        while seen < 10_000 {
            let notice = busy.receive().unwrap();
            seen += match notice["method"].as_str() {
                Some("record") => 1,
                Some("lagged") => notice["params"]["missed"].as_u64().unwrap(),
                other => panic!("{other:?}"),
            };
        }
    });
    place.settle();
    let before = daemon.peak_memory();
    for number in 0..10_000 {
        place.write(&number.to_string());
    }
    place.settle();
    assert_eq!(place.fired("rule"), 10_000);
    reading.join().unwrap();
    let grown = daemon.peak_memory() - before;
    assert!(grown < GROWTH, "{grown} bytes");

    // now it reads: what there was room for, and how much there was not
    let (mut records, mut missed) = (0, 0);
    let mut first = None;
    while records + missed < 10_000 {
        let notice = lazy.receive().unwrap();
        assert_eq!(notice["params"]["subscription"], subscription);
        match notice["method"].as_str().unwrap() {
            "record" => {
                records += 1;
                // in order, with the hole where it is
                let seq = notice["params"]["record"]["seq"].as_u64().unwrap();
                assert_eq!(seq, *first.get_or_insert(seq) + records + missed - 1);
            }
            "lagged" => missed += notice["params"]["missed"].as_u64().unwrap(),
            other => panic!("{other}"),
        }
    }
    assert!(records > 0 && missed > 0, "{records} records, {missed} missed");

    // and goes on
    let path = place.write("after");
    assert_eq!(lazy.receive().unwrap()["params"]["record"]["path"], path);
    lazy.call("unsubscribe", &json!({ "subscription": subscription })).unwrap();
    place.write("unsubscribed");
    place.settle();
    lazy.finish();
    assert_eq!(lazy.receive(), None, "nothing comes after unsubscribing");
}
