//! What is known of the parts of a request, each in its place, while others are still to answer for the rest.

/// See the module.
#[derive(Debug)]
pub struct Slots<T> {
    known: Vec<Option<T>>,
    /// Places whose answer is still to come.
    open: usize,
}

impl<T> Slots<T> {
    /// No places yet, and room for so many.
    pub fn with_capacity(places: usize) -> Self {
        Self {
            known: Vec::with_capacity(places),
            open: 0,
        }
    }

    /// The next place: what is known of it already, or nothing if somebody is asked.
    pub fn push(&mut self, known: Option<T>) {
        self.open += usize::from(known.is_none());
        self.known.push(known);
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nobody is to answer any more.
    pub fn are_known(&self) -> bool {
        self.open == 0
    }

    /// Whether the answer for a place is still to come.
    pub fn is_open(&self, place: u32) -> bool {
        matches!(self.known.get(place as usize), Some(None))
    }

    /// Puts answers into their places, for each of which somebody was asked; whether they were the last ones. What is
    /// known of a place stays.
    pub fn answer(&mut self, answers: Vec<(u32, T)>) -> bool {
        for (place, answer) in answers {
            if self.is_open(place) {
                self.known[place as usize] = Some(answer);
                self.open -= 1;
            }
        }
        self.are_known()
    }

    /// All places, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&T>> {
        self.known.iter().map(Option::as_ref)
    }

    /// The same as values.
    pub fn into_known(self) -> impl Iterator<Item = Option<T>> {
        self.known.into_iter()
    }
}

impl<T> FromIterator<Option<T>> for Slots<T> {
    fn from_iter<I: IntoIterator<Item = Option<T>>>(places: I) -> Self {
        let known: Vec<Option<T>> = places.into_iter().collect();
        let open = known.iter().filter(|known| known.is_none()).count();
        Self { known, open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_known_when_the_last_one_has_answered() {
        let mut slots = Slots::with_capacity(3);
        assert!(slots.are_known());
        for known in [None, Some('b'), None] {
            slots.push(known);
        }
        assert!(!slots.are_known());
        assert!(slots.is_open(2) && !slots.is_open(1) && !slots.is_open(3));
        assert!(!slots.answer(vec![(2, 'c')]));
        assert!(!slots.answer(vec![(2, 'd'), (1, 'd')]), "it is known");
        assert!(slots.answer(vec![(0, 'a')]));
        assert!(slots.iter().flatten().eq(&['a', 'b', 'c']));
        let again: Slots<char> = slots.into_known().collect();
        assert_eq!((again.len(), again.are_known()), (3, true));
        let asked: Slots<char> = [None, Some('b')].into_iter().collect();
        assert!(!asked.are_known());
    }
}
