//! Rows of text in columns. Whatever is not printable is escaped: some of it was chosen by strangers.

/// A table as it is written.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let printable = |text: &str| -> String {
        let escaped = text.chars().map(|char| {
            if char.is_control() {
                char.escape_default().to_string()
            } else {
                char.to_string()
            }
        });
        escaped.collect()
    };
    let head = head.map(str::to_owned);
    let rows: Vec<_> = std::iter::once(&head)
        .chain(rows)
        .map(|row| row.each_ref().map(|cell| printable(cell)))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = widths.iter().zip(row);
        let line: Vec<_> = cells
            .map(|(width, cell)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A duration in the largest unit that says it.
pub(super) fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..120_000 => {
            let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        120_000..7_200_000 => format!("{}m", millis / 60_000),
        _ => format!("{}h", millis / 3_600_000),
    }
}

/// A count of bytes in the largest unit that leaves something before the point.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (count, 0, 0);
    while whole >= 1_024 && unit + 1 < units.len() {
        rest = whole % 1_024;
        whole /= 1_024;
        unit += 1;
    }
    let unit = units.get(unit).copied().unwrap_or_default();
    if rest == 0 || whole >= 100 {
        format!("{whole}{unit}")
    } else {
        format!("{whole}.{}{unit}", rest * 10 / 1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_nothing_moves_the_cursor() {
        let rows = [
            ["1".to_owned(), "a\u{1b}[2J".to_owned()],
            ["10".to_owned(), String::new()],
        ];
        let text = table(["ID", "NAME"], &rows);
        assert_eq!(text, "ID  NAME\n1   a\\u{1b}[2J\n10\n");
    }

    #[test]
    fn numbers_are_short() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_500, "1.5s"),
            (15_000, "15s"),
            (600_000, "10m"),
            (86_400_000, "24h"),
        ] {
            assert_eq!(duration(millis), text);
        }
        for (count, text) in [
            (0, "0B"),
            (1_023, "1023B"),
            (1_536, "1.5KiB"),
            (1 << 30, "1GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
