//! Who is who: the durable crosswalk. A matcher by name and birth date takes its place later.
use crate::domain::identifier::{Identifier, system};

/// The crosswalk's id of a person nobody has met before: derived from an identifier, so that meeting
/// them twice at once gives one id.
pub fn new_person(first: &Identifier) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("person {}", first.token()).as_bytes()).to_string()
}

/// The identifiers that tell one person from another: those with a system.
pub fn telling(identifiers: &[Identifier]) -> impl Iterator<Item = &Identifier> {
    identifiers.iter().filter(|i| !i.system.is_empty() && !i.value.is_empty())
}

/// Whose the identifiers are, from what the crosswalk says of each.
pub fn whose(owners: impl IntoIterator<Item = (Identifier, Option<String>)>) -> Whose {
    let mut person: Option<String> = None;
    for (identifier, owner) in owners {
        match (&person, owner) {
            (Some(known), Some(owner)) if *known != owner => return Whose::TwoPeople(identifier.system),
            (None, Some(owner)) => person = Some(owner),
            _ => {}
        }
    }
    person.map_or(Whose::Nobody, Whose::Person)
}

#[derive(Debug, PartialEq)]
pub enum Whose {
    Nobody,
    Person(String),
    /// The system of an identifier that belongs to somebody else than those before it.
    TwoPeople(String),
}

/// A person has one CHT uuid: who has two, among what is known and what is new, is two people.
pub fn is_another(known: &[Identifier], new: &[Identifier]) -> bool {
    let mut uuids = known.iter().chain(new).filter(|i| i.system == system::CHT_UUID).map(|i| &i.value);
    uuids.next().is_some_and(|first| uuids.any(|other| other != first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(system: &str, value: &str) -> Identifier {
        Identifier::new(system, value)
    }

    #[test]
    fn one_owner_is_the_person() {
        let owners = [(id("a", "1"), None), (id("b", "2"), Some("p".to_string()))];
        assert_eq!(whose(owners), Whose::Person("p".into()));
        assert_eq!(whose([(id("a", "1"), None)]), Whose::Nobody);
    }

    #[test]
    fn two_owners_are_a_conflict_that_names_the_system_only() {
        let owners = [(id("a", "1"), Some("p".to_string())), (id("b", "2"), Some("q".to_string()))];
        assert_eq!(whose(owners), Whose::TwoPeople("b".into()));
    }

    #[test]
    fn two_cht_uuids_are_two_people() {
        let (first, second) = ([id(system::CHT_UUID, "1")], [id(system::CHT_UUID, "2")]);
        assert!(is_another(&first, &second));
        assert!(!is_another(&first, &first));
        assert!(!is_another(&[], &second));
        assert!(is_another(&[], &[first[0].clone(), second[0].clone()]), "in one message too");
    }
}
