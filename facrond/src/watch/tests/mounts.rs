//! What is mounted on and below a path.

use super::*;

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn mounts_on_and_below_a_path_are_taken_in_and_let_go() {
    let mut f = Fixture::new();
    f.mkdir("m/inner");
    f.mkdir("t/below/deep");
    f.rule("m/inner", Events::CLOSE_WRITE);
    f.recursive("t", Events::CLOSE_WRITE);
    for _ in 0..3 {
        let on = Mounted::new(f.path("m"));
        let below = Mounted::new(f.path("t/below"));
        f.write("t/below/there already");
        f.watch.on_mounts().unwrap();
        f.fired();
        assert!(f.is_waiting(RuleId(1)), "the mounted file system has no such directory");
        f.mkdir("m/inner");
        f.write("m/inner/a");
        f.mkdir("t/below/new");
        f.write("t/below/new/b");
        assert_eq!(f.paths(), ["m/inner/a", "t/below/new/b"]);
        on.unmount();
        below.unmount();
        f.watch.on_mounts().unwrap();
        assert_eq!(f.fired(), []);
        f.write("m/inner/c");
        f.write("t/below/deep/d");
        assert_eq!(f.paths(), ["m/inner/c", "t/below/deep/d"]);
        fs::remove_file(f.path("m/inner/c")).unwrap();
        fs::remove_file(f.path("t/below/deep/d")).unwrap();
        f.fired();
    }
}
