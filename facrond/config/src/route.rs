//! A path that is walked name by name, as in `path_resolution(7)`. The target of a symbolic
//! link replaces the name of the link, up to 40 times.

/// The greatest number of symbolic links on a path.
const MAX_LINKS: u32 = 40;

/// The names that still have to be walked. They may contain `..`.
#[derive(Debug)]
pub struct Route {
    /// The names in reverse order: the next one is the last.
    todo: Vec<Box<[u8]>>,
    links: u32,
}

/// The directory where the target of a link starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Root,
    /// The directory of the link.
    Here,
}

impl Route {
    pub fn new(path: &[u8]) -> Self {
        let mut route = Self { todo: Vec::new(), links: 0 };
        route.push(path);
        route
    }

    /// Continues with the target of a link, whose name was the last one. `None` if there were
    /// too many links (`ELOOP`).
    pub fn follow(&mut self, target: &[u8]) -> Option<Start> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return None;
        }
        self.push(target);
        Some(if target.starts_with(b"/") { Start::Root } else { Start::Here })
    }

    /// Whether there are no more names.
    pub fn is_done(&self) -> bool {
        self.todo.is_empty()
    }

    fn push(&mut self, path: &[u8]) {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        self.todo.extend(names.rev().map(Box::from));
    }
}

impl Iterator for Route {
    type Item = Box<[u8]>;

    fn next(&mut self) -> Option<Box<[u8]>> {
        self.todo.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_takes_the_place_of_its_link() {
        let mut route = Route::new(b"//a/./link/c/");
        assert_eq!(route.by_ref().take(2).collect::<Vec<_>>(), [Box::from(*b"a"), Box::from(*b"link")]);
        assert_eq!(route.follow(b"../b"), Some(Start::Here));
        assert_eq!(route.next().as_deref(), Some(&b".."[..]));
        assert_eq!(route.follow(b"/"), Some(Start::Root));
        assert_eq!(route.map(Vec::from).collect::<Vec<_>>(), [b"b", b"c"]);
    }

    #[test]
    fn a_circle_ends() {
        let mut route = Route::new(b"a");
        assert_eq!((0..100).take_while(|_| route.follow(b"a").is_some()).count(), 40);
    }
}
