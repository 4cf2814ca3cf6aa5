//! Where in a text the element of an expression stands.

/// Line and column, from 1, of the element that an expression of ours names; of the nearest above it
/// if it is missing. The text must be JSON.
pub fn locate(json: &[u8], expression: &str) -> Option<(usize, usize)> {
    let mut reader = Reader { json, at: 0 };
    let mut steps = Vec::new();
    for part in expression.split('.').skip(1) {
        let (name, index) = part.split_once('[').map_or((part, None), |(name, rest)| (name, Some(rest)));
        steps.push(Step::Name(name));
        if let Some(index) = index.and_then(|rest| rest.trim_end_matches(']').parse().ok()) {
            steps.push(Step::Index(index));
        }
    }
    reader.blanks();
    let mut found = reader.at;
    for step in steps {
        match reader.enter(&step) {
            Some(at) => found = at,
            None => break,
        }
    }
    let before = json.get(..found)?;
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').filter(|b| **b & 0xC0 != 0x80).count() + 1;
    Some((line, column))
}

enum Step<'e> {
    Name(&'e str),
    Index(usize),
}

struct Reader<'j> {
    json: &'j [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Goes to the value of a step, if it is there; answers where it stands (a field: its name).
    fn enter(&mut self, step: &Step) -> Option<usize> {
        self.blanks();
        match (step, self.peek()?) {
            (Step::Name(name), b'{') => {
                self.at += 1;
                loop {
                    self.blanks();
                    if self.peek()? != b'"' {
                        return None;
                    }
                    let start = self.at;
                    self.value()?;
                    let key = self.json.get(start + 1..self.at - 1)?;
                    self.blanks();
                    if self.peek()? != b':' {
                        return None;
                    }
                    self.at += 1;
                    self.blanks();
                    if key == name.as_bytes() {
                        return Some(start);
                    }
                    self.value()?;
                    self.blanks();
                    if self.peek()? != b',' {
                        return None;
                    }
                    self.at += 1;
                }
            }
            (Step::Index(index), b'[') => {
                self.at += 1;
                for _ in 0..*index {
                    self.blanks();
                    self.value()?;
                    self.blanks();
                    if self.peek()? != b',' {
                        return None;
                    }
                    self.at += 1;
                }
                self.blanks();
                (self.peek()? != b']').then_some(self.at)
            }
            _ => None,
        }
    }

    /// Passes over a value. No recursion: depth is counted.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.blanks();
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    loop {
                        match self.peek()? {
                            b'\\' => self.at += 2,
                            b'"' => break,
                            _ => self.at += 1,
                        }
                    }
                    self.at += 1;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    while self.peek().is_some_and(|b| !b",]}: \t\r\n".contains(&b)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn elements_are_found_where_they_stand() {
        let text = "{\n \"name\": [\n  {\"text\": \"a\\\"]\", \"given\": [\"é\", \"b\"]},\n  {\"family\": 1}\n ],\n \"x\": 1e5}";
        for (expression, expected) in [
            ("Patient", (1, 1)),
            ("Patient.name", (2, 2)),
            ("Patient.name[0].given[1]", (3, 35)),
            ("Patient.name[1].family", (4, 4)),
            ("Patient.name[1].missing.more", (4, 3)),
            ("Patient.name[7]", (2, 2)),
            ("Patient.x", (6, 2)),
        ] {
            assert_eq!(locate(text.as_bytes(), expression), Some(expected), "{expression}");
        }
    }

    #[test]
    fn broken_text_is_no_matter() {
        for text in ["", "{", "[[[[", "{\"a\"", "{\"a\":}", "\"\\", "{\"a\":[1,"] {
            let _ = locate(text.as_bytes(), "X.a[0].b");
        }
    }
}
