//! A plot of bars, as SVG, for `cargo xtask bench relay`.

use std::fmt::Write as _;

/// The first one again after the last, if there are more bars than that.
const COLOURS: [&str; 8] =
    ["#1b6ec2", "#9aa5b1", "#43a047", "#e69f00", "#c2410c", "#7c4dbd", "#00838f", "#ad1457"];

const LEFT: f64 = 90.0;
const WIDTH: f64 = 560.0;
const BAR: f64 = 14.0;
const GAP: f64 = 16.0;
const TOP: f64 = 64.0;

/// Groups of horizontal bars on a logarithmic scale: for each group its name and a value for each of `names`.
pub(super) fn bars(title: &str, names: &[&str], groups: &[(&str, Vec<Option<f64>>)]) -> String {
    let values = || groups.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let least = values().fold(f64::INFINITY, f64::min).log10().floor();
    let most = values().fold(f64::NEG_INFINITY, f64::max).log10().ceil().max(least + 1.0);
    let x = |value: f64| LEFT + (value.log10() - least) / (most - least) * WIDTH;
    let height_of = |values: &[Option<f64>]| values.iter().flatten().count() as f64 * BAR + GAP;
    let height = TOP + groups.iter().map(|(_, values)| height_of(values)).sum::<f64>() + 20.0;
    let total = LEFT + WIDTH + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n"
    );
    // Writing to a text does not fail.
    let mut line = |text: String| {
        let _ = writeln!(svg, "{text}");
    };
    let mut at = 10.0;
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        line(format!("<rect x=\"{at:.0}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"));
        line(format!("<text x=\"{:.0}\" y=\"41\">{name}</text>", at + 14.0));
        at += 32.0 + 6.5 * name.chars().count() as f64;
    }
    let decades = (least as i32..=most as i32).map(f64::from);
    for decade in decades {
        let (at, bottom) = (x(10_f64.powf(decade)), height - 20.0);
        line(format!("<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"));
        let label = 10_f64.powf(decade);
        line(format!("<text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>", bottom + 14.0));
    }
    let mut y = TOP;
    for (group, values) in groups {
        let middle = y + height_of(values) / 2.0;
        line(format!("<text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{group}</text>", LEFT - 8.0));
        for (value, colour) in
            values.iter().zip(COLOURS.iter().cycle()).filter_map(|(value, colour)| Some(((*value)?, colour)))
        {
            let width = (x(value) - LEFT).max(1.0);
            line(format!(
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                BAR - 2.0
            ));
            line(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\">{value:.2}</text>",
                LEFT + width + 4.0,
                y + BAR - 4.0
            ));
            y += BAR;
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_drawn_for_each_value_and_none_for_what_is_missing() {
        let svg =
            bars("t", &["a", "b"], &[("g", vec![Some(1.0), None]), ("h", vec![Some(10.0), Some(100.0)])]);
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 3, "background, legend, bars");
        let many = bars("t", &["name"; 20], &[("g", vec![Some(1.0); 20])]);
        assert_eq!(many.matches("<rect").count(), 1 + 20 + 20);
        assert!(svg.contains(">100.00<") && svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
