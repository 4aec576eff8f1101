# The notebook that `sfrbench report SPEC --notebook` writes and executes. Edit a copy of this file, and give
# it by --template.
#
# "# %%" begins a cell of code, "# %% [markdown]" a cell of text. Cells that begin with "# %% each" come once
# for every item of the report. In text the words TITLE, DESCRIPTION, STAMP and HEADING are replaced, in code
# the strings "EXPERIMENT", "OPTIONS" and "ITEM" by their values. These lines are no part of the notebook.

# %% [markdown]
# # TITLE
#
# DESCRIPTION
#
# **STAMP** Written by `sfrbench report`, from what was in the workspace then; run it again to see what is
# there now. Tables and figures are those of the report, and every cell is yours to change.

# %%
from IPython.display import display

import sfrbench

options = "OPTIONS"
report = sfrbench.load_report("EXPERIMENT", **options)
frame = report.frame  # one row per cell, case, class and metric; leave rows out here to see what changes
frame.head()

# %% each [markdown]
# ## HEADING

# %% each
item = "ITEM"
made = report.make(item, frame)
for table in made.tables:
    display(table)  # table.numbers() is a frame of its numbers
for figure in made.figures:
    display(figure)  # figure.save("name.svg") keeps it
    print(figure.title, figure.caption, *figure.notes, sep="\n")
if made.remark:
    print(made.remark)

# %% [markdown]
# ## On your own
#
# Mean Dice of each case over seeds and classes, per arm, from the frame alone.

# %%
dice = frame[(frame["metric"] == "dice") & frame["subset"].isin(["test", "val"])]
dice.pivot_table(index="case", columns="arm", values="value").round(2)
