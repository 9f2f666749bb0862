//! Which units are known to differ.

/// Whether two unit groups are both known and not the same.
pub(crate) fn differ(left: &str, right: &str) -> bool {
    match (canonical(left), canonical(right)) {
        (Some(left), Some(right)) => left != right,
        _ => false,
    }
}

/// One name for all spellings of a simple unit; none for compound and unknown ones.
fn canonical(unit: &str) -> Option<&'static str> {
    let mut words = Vec::new();
    let mut rest = unit;
    while let Some(begin) = rest.find(|part: char| part.is_alphabetic() || part == '\\') {
        rest = &rest[begin..];
        let word_start = usize::from(rest.starts_with('\\'));
        let length = rest[word_start..].find(|part: char| !part.is_alphabetic()).unwrap_or(rest.len() - word_start);
        if word_start == 0 && length > 0 {
            words.push(rest[..length].to_lowercase());
        }
        rest = &rest[word_start + length.max(1).min(rest.len() - word_start)..];
    }
    let [word] = &words[..] else { return None };
    let stem = word.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(word);
    // A power makes another unit: 3 m and 3 m² differ, but spellings of powers are too many to know.
    if unit.contains('^') || unit.contains('²') || unit.contains('³') {
        return None;
    }
    Some(match stem {
        "m" | "meter" | "metre" => "m",
        "cm" | "centimeter" | "centimetre" => "cm",
        "mm" | "millimeter" | "millimetre" => "mm",
        "km" | "kilometer" | "kilometre" => "km",
        "inch" | "inche" | "in" => "inch",
        "foot" | "feet" | "ft" => "foot",
        "mile" | "mi" => "mile",
        "yard" | "yd" => "yard",
        "g" | "gram" => "g",
        "kg" | "kilogram" => "kg",
        "mg" | "milligram" => "mg",
        "pound" | "lb" | "lbs" => "pound",
        "ounce" | "oz" => "ounce",
        "second" | "sec" => "second",
        "minute" | "min" => "minute",
        "hour" | "hr" => "hour",
        "day" => "day",
        "week" => "week",
        "month" => "month",
        "year" | "yr" => "year",
        "liter" | "litre" => "litre",
        "ml" | "milliliter" | "millilitre" => "ml",
        "dollar" => "dollar",
        "cent" => "cent",
        "euro" => "euro",
        _ => return None,
    })
}
