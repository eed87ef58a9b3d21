//! Accuracy by rule and attack, as a picture.

use super::{Attack, Table};
use std::fmt::Write as _;

/// An SVG heat map: a row per rule, a column per attack; the darker, the less accurate.
pub(super) fn heat_map(table: &Table) -> String {
    let columns = table.attacks.len();
    let (width, height) = (LEFT + columns * CELL.0 + EDGE, TOP + table.lines.len() * CELL.1 + EDGE);
    // Writing to a string does not fail.
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>Accuracy in percent by rule and attack: {}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"{EDGE}\" y=\"18\" font-weight=\"bold\">{}, accuracy \
         in percent</text>\n",
        table.name, table.name,
    );
    for (column, attack) in table.attacks.iter().enumerate() {
        let x = LEFT + column * CELL.0 + CELL.0 / 2;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>", TOP - 8, attack.name());
    }
    for (row, line) in table.lines.iter().enumerate() {
        let top = TOP + row * CELL.1;
        let middle = top + CELL.1 / 2 + 4;
        let _ = writeln!(out, "<text x=\"{EDGE}\" y=\"{middle}\">{}</text>", line.rule);
        for (column, cell) in line.cells.iter().enumerate() {
            let left = LEFT + column * CELL.0;
            let ink = if cell.accuracy < 0.6 { "white" } else { "black" };
            let backdoor = match cell.backdoor {
                Some(share) if table.attacks.get(column) == Some(&Attack::Backdoor) => {
                    format!(" ({:.0})", 100.0 * share)
                }
                _ => String::new(),
            };
            let _ = writeln!(
                out,
                "<rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"white\"/><text x=\"{}\" \
                 y=\"{middle}\" text-anchor=\"middle\" fill=\"{ink}\">{:.1}{backdoor}</text>",
                CELL.0,
                CELL.1,
                colour(cell.accuracy),
                left + CELL.0 / 2,
                100.0 * cell.accuracy,
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

/// From dark (a guess) over orange to pale (all right): lightness alone tells them apart.
fn colour(accuracy: f64) -> String {
    const STOPS: [(f64, [f64; 3]); 4] = [
        (0.0, [49.0, 18.0, 59.0]),
        (0.5, [178.0, 50.0, 88.0]),
        (0.85, [247.0, 148.0, 87.0]),
        (1.0, [253.0, 244.0, 203.0]),
    ];
    let accuracy = accuracy.clamp(0.0, 1.0);
    let above = STOPS.iter().position(|(at, _)| *at >= accuracy).unwrap_or(STOPS.len() - 1).max(1);
    let ((low, from), (high, to)) = (STOPS[above - 1], STOPS[above]);
    let part = (accuracy - low) / (high - low);
    let [red, green, blue] = [0, 1, 2].map(|channel| (from[channel] + part * (to[channel] - from[channel])).round());
    format!("rgb({red},{green},{blue})")
}

/// Pixels: of a cell, in front of and above all cells, and around.
const CELL: (usize, usize) = (84, 26);
const LEFT: usize = 250;
const TOP: usize = 52;
const EDGE: usize = 10;
