//! Who is told of files that are moved.

use super::{files, names, write};
use crate::harness::{Place, comes_true, wait_until};
use std::fs;
use std::time::Duration;

/// DIR is in the tree, and the rules ask for all that a move causes, also by themselves.
#[test]
fn moves_do_not_fire_the_rule_itself() {
    let place = Place::new();
    let events = "ARRIVED|MOVED_FROM|MOVED_TO|RENAME|CREATE|DELETE";
    let script = "test ${1##*/} != bad";
    let rules = [("plain", ""), ("tree", "recursive"), ("own", "recursive self")];
    let conf = rules.map(|(name, options)| {
        let dir = place.mkdir(name);
        format!("{dir} {events} [name={name} {options} done={dir}/done failed={dir}/failed] sh -c '{script}' sh $$\n")
    });
    place.conf(&conf.concat());
    let _daemon = place.start();
    for (name, _) in rules {
        let dir = place.play(name);
        for file in ["good", "bad"] {
            write(&place.play(file), file);
            fs::rename(place.play(file), format!("{dir}/{file}")).unwrap();
        }
        place.settle();
        let moved = ["done", "failed"].map(|to| names(&format!("{dir}/{to}")));
        assert_eq!(moved, [vec!["good"], vec!["bad", "bad.facron"]]);
        assert_eq!((names(&dir).len(), place.fired(name)), (0, 2), "{:?}", place.tail_of(name));
        // What others do there is not the rule's business, either.
        write(&format!("{dir}/done/other"), "");
        place.settle();
        assert_eq!(place.fired(name), 2, "{:?}", place.tail_of(name));
    }
}

#[test]
fn other_rules_are_told() {
    let place = Place::new();
    let [first, second, third, elsewhere] =
        ["first", "second", "third", "elsewhere"].map(|name| place.mkdir(name));
    place.conf(&format!(
        "{first} ARRIVED [name=one done={second}] true\n\
         {second} ARRIVED [name=two done={third}] true\n\
         {third} ARRIVED [name=three done=delete] true\n\
         {first} MOVED_FROM [name=left] -\n\
         {third} DELETE|CREATE|CLOSE_WRITE|MOVED_FROM|MOVED_TO [name=seen] -\n\
         {elsewhere} ARRIVED [name=copied] -\n"
    ));
    let _daemon = place.start();
    for index in 0..20 {
        write(&format!("{first}/{index}"), "text");
    }
    wait_until("the last rule", || place.fired("three") >= 20);
    place.settle();
    assert_eq!(["one", "two", "three", "left"].map(|rule| place.fired(rule)), [20; 4]);
    assert!([&first, &second, &third].iter().all(|dir| names(dir).is_empty()));
    let seen = place.paths_of("seen");
    assert!(seen.iter().all(|path| !path.contains(".facron-")), "{seen:?}");
}

/// A directory that is made for the first file is found by a look, and so are the files that come
/// before it is watched.
#[test]
fn rules_on_a_directory_that_is_made_for_it_are_told() {
    let place = Place::new();
    let (first, second) = (place.mkdir("first"), place.play("made/second"));
    place.conf(&format!("{first} ARRIVED [name=one done={second}] true\n{second} ARRIVED [name=two] -\n"));
    let _daemon = place.start();
    for index in 0..5 {
        write(&place.play(&index.to_string()), "text");
        fs::rename(place.play(&index.to_string()), format!("{first}/{index}")).unwrap();
    }
    wait_until("the moves", || names(&second).len() == 5);
    place.settle();
    assert_eq!(place.fired("two"), 5, "{:?}", place.tail_of("two"));
}

#[test]
fn rules_that_move_files_in_a_circle_rest() {
    let place = Place::new();
    let dirs = ["a", "b", "c"].map(|name| place.mkdir(name));
    let [a, b, c] = &dirs;
    place.conf(&format!(
        "{a} ARRIVED [name=a done={b}] true\n{b} ARRIVED [name=b done={c}] true\n{c} ARRIVED [name=c done={a}] true\n"
    ));
    let _daemon = place.start();
    write(&format!("{a}/file"), "");
    wait_until("the first move", || names(b) == ["file"]);
    place.settle();
    assert!(!comes_true(Duration::from_millis(300), || place.fired("b") > 0));
    write(&format!("{b}/other"), "");
    place.settle();
    assert_eq!((place.fired("a"), place.fired("b"), files(c).len()), (1, 1, 1));
}
