"""`resdet rank`: backbones ranked on one data set by a quick detector each.

arguments   the command line
command     plans, runs the rows, prints the table, writes the page
row_parts   what is done in a process of its own for one backbone
"""
