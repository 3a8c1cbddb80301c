//! Charts as SVG text: lines over two axes, and heat maps.

use std::fmt::Write as _;

use super::axis::{Axis, plain};

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 52.0;
/// Colours that people with any colour vision tell apart.
const COLOURS: [&str; 7] = [
    "#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#777777",
];
/// Lightest and darkest colour of a heat map.
const HEAT: ([f64; 3], [f64; 3]) = ([222.0, 235.0, 247.0], [8.0, 48.0, 107.0]);

/// The colour of line number `n`.
pub fn colour(n: usize) -> &'static str {
    COLOURS[n % COLOURS.len()]
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Its colour.
    pub colour: &'static str,
    /// Whether it is broken.
    pub dashed: bool,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
}

/// A rectangle of a heat map.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// From where to where.
    pub x: (f64, f64),
    /// From where to where.
    pub y: (f64, f64),
    /// How many.
    pub count: u64,
}

/// Text as it may stand in SVG and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A chart being drawn.
struct Canvas<'a> {
    out: String,
    x: &'a Axis,
    y: &'a Axis,
}

impl<'a> Canvas<'a> {
    fn new(title: &str, x: &'a Axis, y: &'a Axis) -> Self {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"
        );
        let mut canvas = Self { out, x, y };
        canvas.text((LEFT, 22.0), "start", 16.0, title);
        canvas
    }

    fn px(&self, value: f64) -> f64 {
        LEFT + self.x.at(value) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.at(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, size: f64, text: &str) {
        let _ = write!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             fill=\"#222222\">{}</text>",
            escape(text)
        );
    }

    fn rect(&mut self, (x0, x1): (f64, f64), (y0, y1): (f64, f64), fill: &str) {
        let _ = write!(
            self.out,
            "<rect x=\"{x0:.2}\" y=\"{y0:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{fill}\"/>",
            (x1 - x0).max(0.0),
            (y1 - y0).max(0.0)
        );
    }

    fn stroke(&mut self, points: &str, colour: &str, width: f64, dashed: bool) {
        let dash = if dashed {
            " stroke-dasharray=\"6 4\""
        } else {
            ""
        };
        let _ = write!(
            self.out,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>"
        );
    }

    /// The grid with its numbers, and what the axes show.
    fn axes(&mut self) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, name) in self.x.ticks() {
            let x = self.px(value);
            self.stroke(
                &format!("{x:.1},{TOP} {x:.1},{bottom}"),
                "#dddddd",
                1.0,
                false,
            );
            self.text((x, bottom + 18.0), "middle", 13.0, &name);
        }
        for (value, name) in self.y.ticks() {
            let y = self.py(value);
            self.stroke(
                &format!("{LEFT},{y:.1} {right},{y:.1}"),
                "#dddddd",
                1.0,
                false,
            );
            self.text((LEFT - 8.0, y + 4.5), "end", 13.0, &name);
        }
        let frame = format!("{LEFT},{TOP} {LEFT},{bottom} {right},{bottom}");
        self.stroke(&frame, "#555555", 1.0, false);
        let middle = f64::midpoint(LEFT, right);
        let label = self.x.label.clone();
        self.text((middle, HEIGHT - 12.0), "middle", 13.0, &label);
        let (x, y) = (18.0, f64::midpoint(TOP, bottom));
        let _ = write!(
            self.out,
            "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\" \
             fill=\"#222222\">{}</text>",
            escape(&self.y.label)
        );
    }

    fn legend(&mut self, lines: &[Line]) {
        let mut x = LEFT;
        for line in lines {
            let points = format!("{x:.1},42 {:.1},42", x + 26.0);
            self.stroke(&points, line.colour, 2.5, line.dashed);
            self.text((x + 32.0, 46.5), "start", 13.0, &line.name);
            x += 32.0 + 7.4 * line.name.chars().count() as f64 + 22.0;
        }
    }

    fn finish(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }
}

/// Lines over two axes. `shade` greys what is not measured, in values of the x axis.
pub fn line_chart(title: &str, x: &Axis, y: &Axis, lines: &[Line], shade: &[(f64, f64)]) -> String {
    let mut canvas = Canvas::new(title, x, y);
    for &(from, to) in shade {
        let reach = (canvas.px(from), canvas.px(to));
        canvas.rect(reach, (TOP, HEIGHT - BOTTOM), "#f1f1ee");
    }
    canvas.axes();
    for line in lines {
        let mut points = String::new();
        for &(at, value) in &line.points {
            let _ = write!(points, "{:.1},{:.1} ", canvas.px(at), canvas.py(value));
        }
        canvas.stroke(points.trim_end(), line.colour, 2.0, line.dashed);
        // A line of one point would not be seen.
        if let [(at, value)] = line.points[..] {
            let (x, y) = (canvas.px(at), canvas.py(value));
            canvas.rect((x - 2.5, x + 2.5), (y - 2.5, y + 2.5), line.colour);
        }
    }
    canvas.legend(lines);
    canvas.finish()
}

/// Counts as colours.
pub fn heat_map(title: &str, x: &Axis, y: &Axis, cells: &[Cell]) -> String {
    let mut canvas = Canvas::new(title, x, y);
    let most = cells.iter().map(|cell| cell.count).max().unwrap_or(1);
    let shade = |count: u64| (1.0 + count as f64).ln() / (1.0 + most as f64).ln();
    canvas.axes();
    for cell in cells {
        let reach = (canvas.px(cell.x.0), canvas.px(cell.x.1));
        let height = (canvas.py(cell.y.1), canvas.py(cell.y.0));
        canvas.rect(reach, height, &heat(shade(cell.count)));
    }
    canvas.text((LEFT, 46.5), "start", 13.0, "1");
    for step in 0..60 {
        let at = LEFT + 14.0 + f64::from(step) * 2.0;
        canvas.rect((at, at + 2.2), (36.0, 48.0), &heat(f64::from(step) / 59.0));
    }
    let note = format!("{} per second and cell (log)", plain(most as f64));
    canvas.text((LEFT + 142.0, 46.5), "start", 13.0, &note);
    canvas.finish()
}

fn heat(share: f64) -> String {
    let mix: Vec<String> = (0..3)
        .map(|n| format!("{:.0}", HEAT.0[n] + (HEAT.1[n] - HEAT.0[n]) * share))
        .collect();
    format!("rgb({})", mix.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out() {
        assert_eq!(
            escape("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
        let axis = Axis::between("<x>", 0.0, 1.0);
        let line = Line {
            name: String::from("<script>"),
            colour: colour(0),
            dashed: true,
            points: vec![(0.0, 0.0), (1.0, 1.0)],
        };
        let svg = line_chart("a & b", &axis, &axis, &[line], &[(0.0, 0.2)]);
        assert!(!svg.contains("<script") && !svg.contains("<x>") && svg.contains("a &amp; b"));
    }

    #[test]
    fn points_lie_within_the_frame() {
        let (x, y) = (Axis::between("", 0.0, 10.0), Axis::between("", 0.0, 10.0));
        let line = Line {
            name: String::new(),
            colour: colour(9),
            dashed: false,
            points: vec![(0.0, 0.0), (10.0, 10.0)],
        };
        let svg = line_chart("", &x, &y, &[line], &[]);
        let corners = format!(
            "points=\"{LEFT:.1},{:.1} {:.1},{TOP:.1}\"",
            HEIGHT - BOTTOM,
            WIDTH - RIGHT
        );
        assert!(svg.contains(&corners), "{svg}");
    }

    #[test]
    fn more_is_darker() {
        let axis = Axis::between("", 0.0, 2.0);
        let cell = |n: f64, count| Cell {
            x: (n, n + 1.0),
            y: (0.0, 1.0),
            count,
        };
        let svg = heat_map("", &axis, &axis, &[cell(0.0, 1), cell(1.0, 1000)]);
        assert!(svg.contains("rgb(8,48,107)"));
        assert_eq!(heat(0.0), "rgb(222,235,247)");
    }
}
