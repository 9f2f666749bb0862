//! What names mean: LaTeX commands, words, Greek letters, units.

use super::token::Token;
use super::tree::Function as F;

/// What a command means: none if unknown; `Some(None)` if it says nothing (spacing, style).
pub(crate) fn command(name: &str) -> Option<Option<Token>> {
    if let Some(function) = function(name) {
        return Some(Some(function));
    }
    let token = match name {
        "left" | "right" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "biggl" | "biggr"
        | "Biggl" | "Biggr" | "middle" | "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits"
        | "quad" | "qquad" | "thinspace" | "enspace" | "hfill" | "newline" | "par" | "noindent" | "small" | "large"
        | "Large" | "tiny" | "normalsize" | "boldmath" | "it" | "hline" | "mathstrut" | "strut" | "break"
        | "therefore" | "boxed" | "fbox" | "mathord" | "mathop" | "mathbin" | "mathrel" | "smash" | "textdollar"
        | "dollar" | "ensuremath" | "because" | "protect" | "relax" | "centering" => return Some(None),
        "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" => Token::Frac,
        "binom" | "dbinom" | "tbinom" => Token::Binomial,
        "sqrt" => Token::Sqrt,
        "sum" => Token::Sum,
        "prod" => Token::Prod,
        "int" => Token::Structural("int"),
        "iint" => Token::Structural("iint"),
        "iiint" => Token::Structural("iiint"),
        "oint" => Token::Structural("oint"),
        "lim" => Token::Structural("lim"),
        "limsup" => Token::Structural("limsup"),
        "liminf" => Token::Structural("liminf"),
        "sup" => Token::Structural("sup"),
        "inf" => Token::Structural("inf"),
        "over" => Token::Over,
        "choose" => Token::Choose,
        "times" | "cdot" | "ast" | "star" | "bullet" => Token::Times,
        "div" => Token::Slash,
        "pm" => Token::PlusMinus,
        "mp" => Token::MinusPlus,
        "percent" => Token::Percent,
        "degree" | "circ" | "degrees" => Token::Degree,
        "prime" => Token::Prime,
        "eq" => Token::Equal,
        "ne" | "neq" => Token::NotEqual,
        "lt" => Token::Less,
        "gt" => Token::Greater,
        "le" | "leq" | "leqslant" | "leqq" => Token::LessEqual,
        "ge" | "geq" | "geqslant" | "geqq" => Token::GreaterEqual,
        "approx" | "simeq" | "cong" | "thickapprox" | "doteq" => Token::Approximately,
        "in" => Token::In,
        "equiv" => Token::Congruent,
        "to" | "rightarrow" | "Rightarrow" | "implies" | "iff" | "mapsto" | "sim" | "propto" | "ll" | "gg"
        | "subset" | "subseteq" | "supset" | "notin" | "perp" | "parallel" | "Leftrightarrow" | "longrightarrow"
        | "nmid" | "ni" | "supseteq" => Token::OtherRelation,
        "cup" | "bigcup" => Token::Cup,
        "cap" | "bigcap" => Token::Cap,
        "setminus" | "backslash" | "smallsetminus" => Token::SetMinus,
        "lbrace" => Token::OpenSet,
        "rbrace" => Token::CloseSet,
        "lbrack" => Token::OpenSquare,
        "rbrack" => Token::CloseSquare,
        "lparen" => Token::OpenRound,
        "rparen" => Token::CloseRound,
        "vert" | "Vert" => Token::Bar,
        "lvert" | "lVert" => Token::OpenBar,
        "rvert" | "rVert" => Token::CloseBar,
        "lfloor" => Token::OpenFloor,
        "rfloor" => Token::CloseFloor,
        "lceil" => Token::OpenCeil,
        "rceil" => Token::CloseCeil,
        "langle" => Token::OpenAngle,
        "rangle" => Token::CloseAngle,
        "bmod" | "mod" => Token::Mod,
        "pmod" | "pod" => Token::ParenMod,
        "pi" => Token::Pi,
        "infty" | "infin" => Token::Infinity,
        "emptyset" | "varnothing" | "O" => Token::EmptySet,
        "R" | "reals" | "Reals" => Token::Reals,
        "Z" | "N" | "Q" => Token::NamedSet(name.to_owned()),
        "ldots" | "cdots" | "dots" | "dotsc" | "dotsm" | "dotsb" | "vdots" | "ddots" => Token::Ellipsis,
        "mid" => Token::Mid,
        "colon" => Token::Colon,
        "not" => Token::Not,
        "angle" | "measuredangle" | "triangle" | "forall" | "exists" | "partial" | "nabla" | "wedge" | "land"
        | "lor" | "vee" | "neg" | "lnot" | "oplus" | "otimes" | "odot" | "hbar" | "ell" | "dagger" | "aleph"
        | "imath" | "jmath" | "Re" | "Im" | "complement" | "square" | "Box" | "diamond" | "top" | "bot"
        | "checkmark" | "clubsuit" | "heartsuit" | "spadesuit" | "diamondsuit" => Token::Symbol(name.to_owned()),
        "omicron" => Token::Symbol("o".to_owned()),
        _ => return greek_name(name).map(|name| Some(Token::Symbol(name.to_owned()))),
    };
    Some(Some(token))
}

/// What a word means outside a command; none for a word without a meaning of its own.
pub(crate) fn word(word: &str) -> Option<Token> {
    if let Some(function) = function(word) {
        return Some(function);
    }
    Some(match word {
        "sqrt" => Token::Sqrt,
        "frac" | "dfrac" => Token::Frac,
        "pi" | "Pi" => Token::Pi,
        "inf" | "infinity" | "infty" | "Infinity" | "oo" => Token::Infinity,
        "and" | "or" | "And" | "Or" => Token::And,
        "percent" | "pct" | "Percent" => Token::Percent,
        "degrees" | "degree" | "deg" => Token::Degree,
        "sum" => Token::Sum,
        "times" => Token::Times,
        "union" => Token::Cup,
        "emptyset" => Token::EmptySet,
        "mod" => Token::Mod,
        "binom" | "binomial" => Token::Function(F::Binomial),
        "pm" => Token::PlusMinus,
        _ if is_plain_unit(word) => Token::Unit(word.to_owned()),
        _ => return greek_name(word).map(|name| Token::Symbol(name.to_owned())),
    })
}

fn function(name: &str) -> Option<Token> {
    Some(Token::Function(match name {
        "sin" => F::Sin,
        "cos" => F::Cos,
        "tan" | "tg" => F::Tan,
        "cot" | "ctg" => F::Cot,
        "sec" => F::Sec,
        "csc" | "cosec" => F::Csc,
        "arcsin" | "asin" => F::Asin,
        "arccos" | "acos" => F::Acos,
        "arctan" | "atan" | "arctg" => F::Atan,
        "arccot" | "acot" => F::Acot,
        "arcsec" | "asec" => F::Asec,
        "arccsc" | "acsc" => F::Acsc,
        "sinh" => F::Sinh,
        "cosh" => F::Cosh,
        "tanh" => F::Tanh,
        "coth" => F::Coth,
        "sech" => F::Sech,
        "csch" => F::Csch,
        "arsinh" | "arcsinh" | "asinh" => F::Asinh,
        "arcosh" | "arccosh" | "acosh" => F::Acosh,
        "artanh" | "arctanh" | "atanh" => F::Atanh,
        "exp" => F::Exp,
        "ln" => F::Log,
        "log" => F::BareLog,
        "lg" => F::CommonLog,
        "abs" | "Abs" => F::Abs,
        "floor" => F::Floor,
        "ceil" | "ceiling" => F::Ceil,
        "factorial" => F::Factorial,
        "gcd" => F::Gcd,
        "lcm" => F::Lcm,
        "max" | "Max" => F::Max,
        "min" | "Min" => F::Min,
        "sign" | "sgn" => F::Sign,
        "cbrt" => F::Root,
        _ => return None,
    }))
}

/// A Greek letter's token by character.
pub(crate) fn greek(letter: char) -> Option<Token> {
    const LETTERS: &str = "αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨΩϕϵ";
    const NAMES: [&str; 36] = [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
        "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda",
        "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "phi", "epsilon", "", "",
    ];
    match letter {
        'π' => Some(Token::Pi),
        '∆' => Some(Token::Symbol("Delta".to_owned())),
        'ℏ' => Some(Token::Symbol("hbar".to_owned())),
        'ℝ' => Some(Token::Reals),
        '𝑖' => Some(Token::Symbol("i".to_owned())),
        _ => {
            let at = LETTERS.chars().position(|known| known == letter)?;
            Some(Token::Symbol((*NAMES.get(at)?).to_owned()))
        }
    }
}

fn greek_name(name: &str) -> Option<&str> {
    let plain = name.strip_prefix("var").filter(|rest| rest.len() > 1).unwrap_or(name);
    matches!(
        plain,
        "alpha"
            | "beta"
            | "gamma"
            | "delta"
            | "epsilon"
            | "zeta"
            | "eta"
            | "theta"
            | "iota"
            | "kappa"
            | "lambda"
            | "mu"
            | "nu"
            | "xi"
            | "rho"
            | "sigma"
            | "tau"
            | "upsilon"
            | "phi"
            | "chi"
            | "psi"
            | "omega"
            | "Gamma"
            | "Delta"
            | "Theta"
            | "Lambda"
            | "Xi"
            | "Pi"
            | "Sigma"
            | "Upsilon"
            | "Phi"
            | "Psi"
            | "Omega"
    )
    .then_some(plain)
}

/// Units that cannot be taken for a product of letters, written without a wrapper.
fn is_plain_unit(word: &str) -> bool {
    let lower = word.to_lowercase();
    matches!(
        lower.as_str(),
        "cm" | "km"
            | "mm"
            | "kg"
            | "ml"
            | "mph"
            | "kph"
            | "ft"
            | "yd"
            | "lbs"
            | "oz"
            | "hz"
            | "khz"
            | "mhz"
            | "kj"
            | "mol"
            | "kw"
            | "kwh"
            | "usd"
            | "eur"
            | "gbp"
            | "rad"
    ) || (lower.len() > 2 && !lower.contains(|part: char| part.is_ascii_digit()) && is_unit(&lower))
}

/// Whether a text names a unit, alone or as a product, quotient or power of units.
pub(crate) fn is_unit(text: &str) -> bool {
    let mut words = 0;
    for word in text.split(|part: char| !part.is_alphabetic() && part != '%').filter(|word| !word.is_empty()) {
        words += 1;
        if words > 6 || !is_unit_word(&word.to_lowercase()) {
            return false;
        }
    }
    words > 0
}

fn is_unit_word(word: &str) -> bool {
    let stem = word.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(word);
    matches!(
        stem,
        "cm" | "km"
            | "mm"
            | "nm"
            | "m"
            | "meter"
            | "metre"
            | "centimeter"
            | "centimetre"
            | "kilometer"
            | "kilometre"
            | "millimeter"
            | "millimetre"
            | "inch"
            | "inche"
            | "in"
            | "foot"
            | "feet"
            | "ft"
            | "yard"
            | "yd"
            | "mile"
            | "mi"
            | "g"
            | "kg"
            | "mg"
            | "gram"
            | "kilogram"
            | "milligram"
            | "ton"
            | "tonne"
            | "pound"
            | "lb"
            | "lbs"
            | "ounce"
            | "oz"
            | "second"
            | "sec"
            | "s"
            | "minute"
            | "min"
            | "hour"
            | "hr"
            | "h"
            | "day"
            | "week"
            | "month"
            | "year"
            | "yr"
            | "liter"
            | "litre"
            | "l"
            | "ml"
            | "milliliter"
            | "millilitre"
            | "gallon"
            | "cup"
            | "quart"
            | "pint"
            | "dollar"
            | "cent"
            | "euro"
            | "usd"
            | "eur"
            | "gbp"
            | "buck"
            | "rupee"
            | "yuan"
            | "yen"
            | "peso"
            | "unit"
            | "square"
            | "sq"
            | "cubic"
            | "cu"
            | "per"
            | "each"
            | "of"
            | "the"
            | "mph"
            | "kph"
            | "k"
            | "kelvin"
            | "celsius"
            | "fahrenheit"
            | "c"
            | "f"
            | "newton"
            | "n"
            | "joule"
            | "j"
            | "kj"
            | "watt"
            | "w"
            | "kw"
            | "kwh"
            | "volt"
            | "v"
            | "ampere"
            | "amp"
            | "a"
            | "ohm"
            | "pascal"
            | "pa"
            | "kpa"
            | "hz"
            | "khz"
            | "mhz"
            | "hertz"
            | "mol"
            | "mole"
            | "ev"
            | "kev"
            | "mev"
            | "coulomb"
            | "tesla"
            | "weber"
            | "henry"
            | "farad"
            | "rad"
            | "radian"
            | "steradian"
            | "student"
            | "people"
            | "person"
            | "way"
            | "apple"
            | "ball"
            | "time"
            | "page"
            | "book"
            | "point"
            | "coin"
            | "box"
            | "boxe"
            | "car"
            | "card"
            | "child"
            | "children"
            | "number"
            | "integer"
            | "solution"
            | "step"
            | "game"
            | "digit"
            | "row"
            | "color"
            | "colour"
            | "item"
            | "ticket"
            | "piece"
            | "degree"
            | "animal"
            | "tree"
            | "egg"
            | "cookie"
            | "marble"
            | "sheet"
            | "total"
            | "more"
            | "les"
            | "square-foot"
            | "mm²"
            | "paper"
            | "bin"
            | "men"
            | "women"
            | "boy"
            | "girl"
            | "team"
            | "worker"
            | "player"
            | "member"
            | "seat"
            | "chair"
            | "table"
            | "vote"
            | "dozen"
            | "pair"
            | "set"
            | "term"
            | "side"
            | "edge"
            | "face"
            | "vertice"
            | "triangle"
            | "subset"
            | "path"
            | "word"
            | "letter"
            | "string"
            | "sticker"
            | "flower"
            | "bird"
            | "fish"
    )
}

/// Whether a text has words that no mathematics has: such a candidate is a sentence around an answer.
pub(crate) fn is_prose(text: &str) -> bool {
    let mut short = 0;
    let mut rest = text;
    while let Some(begin) = rest.find(|part: char| part.is_ascii_alphabetic() || part == '\\') {
        rest = &rest[begin..];
        let command = rest.starts_with('\\');
        let body = &rest[usize::from(command)..];
        let length = body.bytes().take_while(u8::is_ascii_alphabetic).count();
        let run = &body[..length];
        rest = &body[length..];
        if command {
            // What a wrapper holds is not prose around the answer but part of it.
            if matches!(run, "text" | "mathrm" | "mbox" | "textbf" | "operatorname" | "begin" | "end" | "textnormal")
                && let Some((_, used)) = super::token::argument(rest)
            {
                rest = &rest[used..];
            }
            if length == 0 {
                rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or("");
            }
            continue;
        }
        let capitals = run.bytes().all(|byte| byte.is_ascii_uppercase());
        if length < 2 || (capitals && length < 6) || word(run).is_some() || is_unit(run) {
            continue;
        }
        if length > 3 {
            return true;
        }
        short += 1;
        if short > 1 && rest.starts_with([' ', ',', '.']) {
            return true;
        }
    }
    false
}
