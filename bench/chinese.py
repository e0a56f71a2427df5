"""The measured part of the page in Chinese, made from the English, so that no figure differs."""

import re

from .report import HOMES

PARAGRAPHS = {
    HOMES: """\
三种日志放在一起比：这里的服务器不限于一个 CPU，因为两个 worker 就是要用两个，压测程序得和它们共用。
括号里是该数值除以“内存，1 个 worker”的数值。Redis 自己用掉的不算在服务器的 CPU 里。""",
    "What the numbers say:": "从数字看：",
    "Runs that failed; their rows are of the runs that are left:": "失败的（其行只算其余几次）：",
}
DATA = [  # lines that quote what a machine says: their rest stays as it is
    (
        r"Measured (\S+) with (`.*`), (\d+) repetition\(s\), medians\.",
        r"\1 用 \2 测得，重复 \3 次，取中位数。",
    ),
    (r"- Machine: (.*); load average at the start (\S+)", r"- 机器：\1；开始时的平均负载 \2"),
    (r"- Versions: (.*)", r"- 版本：\1"),
]
PHRASES = [  # the longer before what it begins with
    (
        r"In brackets: the figure divided by that of (.*?)\. .*",
        r"括号里是该数值除以 \1 的数值。最后一列是压测程序占用的 CPU，按服务器的顺序排列。",
    ),
    (
        r"- \*\*(.+)\*\* is behind in (\d+) rows, within (\d+%) in (\d+), ahead in (\d+)",
        r"- **\1**：落后 \2 行，相差 \3 以内 \4 行，领先 \5 行",
    ),
    (
        r"- The generator is Python .* (\d+%) of .*",
        r"- 压测程序也是 Python 写的。它有 \1 以上的时间在忙时，速率至多是服务器能力的下限，"
        r"延迟里也有它自己的等待：",
    ),
    (r": (\S+) against (\S+) (\S+)$", r"：\1 \3，这里是 \2 \3"),
    (
        r"GET of a tiny route, p99, while (\S+) subscribers are served",
        r"同时服务 \1 个订阅者时，请求一个小路由的 p99",
    ),
    (r"(\d+) of (\d+) never read", r"\2 个里有 \1 个从不读"),
    (r"against the run where all read", "与都在读的那次相比"),
    (r"all of (\d+) read", r"\1 个都在读"),
    (r"own and shared against one channel", "自己的加共用的，与一个频道相比"),
    (r"own and shared", "自己的加共用的"),
    (r"one channel for all", "大家一个频道"),
    (r"a channel for each", "每人一个频道"),
    (r"server CPU per delivery", "每次送达的服务器 CPU"),
    (r"server memory per idle connection", "每个空闲连接的服务器内存"),
    (r"memory per connection", "每个连接的内存"),
    (r"memory grown", "内存增长"),
    (r"memory, (\d+) worker", r"内存，\1 个 worker"),
    (r"(SQLite|Redis), (\d+) workers", r"\1，\2 个 worker"),
    (r"CPU while nothing happens", "没有消息时的 CPU"),
    (r"delivered to the others", "其余客户端收到的"),
    (r"new connections, ([\d,]+)", r"新建连接，共 \1 个"),
    (r"round trips", "往返"),
    (r"deliveries", "送达次数"),
    (r"latency", "延迟"),
    (r"burst", "突发"),
    (r"one message in flight", "在途 1 条"),
    (r"(\d+) in flight", r"在途 \1 条"),
    (r"(\S+) messages/s", r"每秒 \1 条"),
    (r"(\S+) subscribers", r"\1 个订阅者"),
    (r"(\d+) connections?", r"\1 个连接"),
    (r"(\S+) open\b", r"共 \1 个"),
    (r"plain Flask", "普通 Flask"),
    (r"generator busy", "压测程序占用"),
    (r"\bunit\b", "单位"),
    (r"\btimes\b", "倍"),
    (r" \(less is better\)", "（越小越好）"),
    (r" \(more is better\)", "（越大越好）"),
    (r":$", "："),
    (r": ", "："),
    (r", ", "，"),
]


def text(english: str) -> str:
    """The same in Chinese; what nothing is known about, such as an error, stays as it is."""
    for paragraph, written in PARAGRAPHS.items():
        english = english.replace(paragraph, written)
    return "\n".join(_line(line) for line in english.split("\n"))


def _line(line: str) -> str:
    for pattern, written in DATA:
        if found := re.fullmatch(pattern, line):
            return found.expand(written)
    if "---" in line:  # the rule below a table's head
        return line
    for pattern, written in PHRASES:
        line = re.sub(pattern, written, line)
    return line
