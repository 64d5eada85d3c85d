"""The template of report.html: one file that needs no network."""

__all__ = ['PAGE', 'SCRIPT', 'STYLE']

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 2em auto; padding: 0 1em;
       color: #222 }
h1, h2 { font-weight: 600 }
h2 { margin-top: 2em }
.wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .3em .5em; font-size: .93em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
.text th, .text td { text-align: left; vertical-align: top; overflow-wrap: anywhere; min-width: 6em }
.sortable th { cursor: pointer; border-bottom: 2px solid #888; vertical-align: bottom }
th[data-order="1"]::after { content: " \\25B2" }
th[data-order="-1"]::after { content: " \\25BC" }
.pictures td { text-align: center; border: 0 }
.pictures img { width: 240px; display: block }
.legend span { margin-right: 1.2em; white-space: nowrap }
.legend i { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -.1em;
            border: 1px solid #888 }
.note { color: #555; max-width: 60em }
"""

# Select a head to sort by its column: numbers by value, before texts; a second time turns round.
SCRIPT = """
const valueOf = cell => {
  const text = cell.textContent.trim(), number = parseFloat(text);
  return isNaN(number) ? text : number;
};
const compare = (a, b) => {
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
  return a < b ? -1 : Number(a > b);
};
for (const head of document.querySelectorAll('.sortable th')) {
  head.addEventListener('click', () => {
    const order = head.dataset.order === '1' ? -1 : 1;
    for (const other of head.parentNode.children) delete other.dataset.order;
    head.dataset.order = order;
    const body = head.closest('table').tBodies[0];
    const value = row => valueOf(row.cells[head.cellIndex]);
    body.append(...[...body.rows].sort((a, b) => order * compare(value(a), value(b))));
  });
}
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison {{ results.name }}</title>
<style>{{ style|safe }}</style>
<script>{{ plotly|safe }}</script>
</head>
<body>
<h1>Comparison {{ results.name }}</h1>

{%- macro show(table, kind) %}
<div class="wide"><table class="sortable {{ kind }}">
<thead><tr>{% for cell in table.header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro %}

{%- macro picture(path, text) %}
<td>
{%- if path %}<img alt="{{ text }}" src="data:image/jpeg;base64,{{ encoded(path) }}">{% endif -%}
</td>
{%- endmacro %}

{{ show(summary, '') }}
<p class="note">{{ method }} Select the head of a table to sort by it, an entry of a legend to switch
a curve off.</p>
{% for title, figure in figures.items() %}
<h2>{{ title }}</h2>
{{ figure|safe }}
{% endfor %}
{% for title, table in tables.items() %}
<h2>{{ title }}</h2>
{{ show(table, '' if 'class' in title else 'text') }}
{% endfor %}
{% if pictures %}
<h2>Predictions on the same images</h2>
{% for image in pictures %}
<div class="wide"><table class="pictures">
<thead><tr><th></th><th>ground truth</th>
{%- for label in columns %}<th>{{ label }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for seed, row in image.predictions.items() %}
<tr><td>seed {{ seed }}</td>
{{- picture(image.truth if loop.first, 'ground truth') }}
{%- for label in columns %}{{ picture(row[label], label ~ ', seed ' ~ seed) }}{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{% if image.legend %}<p class="legend">
{%- for name, colour in image.legend.items() %}
<span><i style="background: {{ colour }}"></i>{{ name }}</span>
{%- endfor %}
</p>{% endif %}
{% endfor %}
{% endif %}
<h2>Conditions</h2>
<table class="text"><tbody>
{%- for name, text in facts %}
<tr><td>{{ name }}</td><td><code>{{ text }}</code></td></tr>
{%- endfor %}
</tbody></table>
<details><summary>Config of the first run, in full</summary>
<pre>{{ results.config_text }}</pre></details>
<script type="application/json" id="results">{{ data|safe }}</script>
<script>{{ script|safe }}</script>
</body>
</html>
"""
