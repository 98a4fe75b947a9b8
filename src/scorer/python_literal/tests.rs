use super::*;

/// Pairs that Python 3.11 finds equal.
const EQUAL: &[(&str, &str)] = &[
    ("{'A': 1}", "{ 'A' : True, }"),
    ("[1, 2.0]", "[1.0, 0x2]"),
    ("(1)", "+1"),
    ("1,", "(1,)"),
    ("()", "( )"),
    ("{1, 2, 2}", "{2, 1}"),
    ("set()", "set ( )"),
    ("{'a': 1, 'b': 2, 'a': 3}", "{'b': 2, 'a': 3}"),
    ("'x' \"y\"", "'''xy'''"),
    ("u'é'", r"'\u00e9'"),
    (r"r'\n'", r"'\\n'"),
    (r"b'\x41\101'", "B'AA'"),
    (r"b'\777'", r"b'\xff'"),
    (r"'\777'", "'ǿ'"),
    (r"'\ud83d'", r"'\ud83d'"),
    ("'a\\\nb'", "'ab'"),
    ("'''a\r\nb'''", r"'a\nb'"),
    (r"'\q'", r"'\\q'"),
    (r"br'\n'", r"b'\\n'"),
    ("1_000", "1e3"),
    ("0b1_0", "0o2"),
    ("1 + 2j", "1.0+2e0J"),
    ("1 - 0j", "1"),
    ("-1j", "-1J"),
    ("0.0", "-0.0"),
    ("1e999", "2e999"),
    ("9007199254740993", "0x20000000000001"),
    ("9007199254740992.0", "9007199254740992"),
    ("1e23", "99999999999999991611392"),
    ("18446744073709551616", "0x1_0000_0000_0000_0000"),
    ("9007199254740993 + 0j", "9007199254740992"),
    ("[ # one\n1,\n\n  2 ]", "[1, 2] # two"),
    ("\n\n# a comment\n[1]\n\n  # end", "  [1]"),
    ("...", "..."),
    ("None", "None\n"),
    ("- 1", "-1"),
    ("[1, # x\n]", "[1]"),
    ("(1, 2)", "1, 2"),
    ("1 \\\n + 2j", "1+2j"),
    ("00", "0"),
    ("012.5", "12.5"),
    (".5", "5e-1"),
    ("\\\n[1]\n  \n # end", "\u{c}[1]"),
    ("{(1, 'a'): [1]}", "{(True, 'a'): [1.0]}"),
];

/// Pairs that differ, and texts that are no literals.
const DIFFERENT: &[(&str, &str)] = &[
    ("[1]", "(1,)"),
    ("'a'", "b'a'"),
    ("{}", "set()"),
    ("1", "'1'"),
    ("None", "False"),
    ("9007199254740993", "9007199254740992.0"),
    ("1e23", "100000000000000000000000"),
    ("0.1", "0.2"),
    ("1e999", "-1e999"),
    ("[1, 2]", "[2, 1]"),
    ("1j", "1"),
];

const NONE: &[&str] = &[
    "",
    "  \n",
    "null",
    "true",
    "x",
    "dict(A=1)",
    "['a'] + ['b']",
    "f'x'",
    "'a' f'b'",
    "'a' b'b'",
    "{['a']: 1}",
    "{[1]}",
    "{([],): 1}",
    "{'A': [}",
    "{'A': 1,, }",
    "[1",
    "1]",
    "(1",
    "{1: 2, 3}",
    "{1, 2: 3}",
    "[,]",
    "--1",
    "-(-1)",
    "-True",
    "1 + 1",
    "1j + 1",
    "-1j + 2j",
    "1 + -2j",
    "1+2j+3j",
    "True + 1j",
    "'abc",
    "'a\nb'",
    "'''a''",
    r"'\x4'",
    r"'\u12'",
    r"'\U00110000'",
    r"'\N{BULLET}'",
    "b'é'",
    "012",
    "1__0",
    "1_",
    "0x",
    "0xg",
    "1e",
    "1.5.5",
    "1a",
    "ur'x'",
    "python\n{}",
    "{}\n{}",
    "\n  {}",
    "a: 1",
    "{**{}}",
    "*[1]",
    "[1 2]",
    "'a' 1",
    "\0",
    "\u{a0}1",
    "lambda: 1",
    "1 if 1 else 2",
    "(1 for",
    "..",
    "'\\",
    "1 \\",
    "_",
    "set(1)",
    "set([1])",
    "[1]\n  ",
    "\u{c} 1",
    "\\\n 1",
    "{1:}",
    "not 1",
    "1 < 2",
    "‘a’",
];

#[test]
fn literals_are_equal_as_in_python() {
    for (one, other) in EQUAL {
        assert_eq!(parse(one).unwrap(), parse(other).unwrap(), "{one:?} {other:?}");
    }
    for (one, other) in DIFFERENT {
        assert_ne!(parse(one).unwrap(), parse(other).unwrap(), "{one:?} {other:?}");
    }
}

#[test]
fn what_is_no_literal_is_an_error() {
    for text in NONE {
        assert!(parse(text).is_err(), "{text:?} is {:?}", parse(text));
    }
}

#[test]
fn nesting_and_digits_have_python_s_limits() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(200)).is_ok());
    assert!(parse(&nested(201)).is_err());
    assert!(parse(&nested(1_000_000)).is_err());
    assert!(parse(&"9".repeat(4300)).is_ok());
    assert!(parse(&"9".repeat(4301)).is_err());
    assert!(parse(&format!("0x{}", "f".repeat(100_000))).is_ok());
    assert!(parse(&format!("1 + {}j", "9".repeat(400))).is_ok());
    assert!(parse(&format!("{} + 1j", "9".repeat(400))).is_err());
}

#[test]
fn long_literals_take_no_time_to_speak_of() {
    let items: Vec<String> = (0..200_000).map(|number| format!("'{number}'")).collect();
    let set = format!("{{{}}}", items.join(", "));
    let Literal::Set(items) = parse(&set).unwrap() else { panic!() };
    assert_eq!(items.len(), 200_000);
    assert!(parse(&"'a' ".repeat(50_000)).is_ok());
}
