"""Sub-commands beside the DAG: downloads, lists, features, search, captions, and the schema of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from crossmodal.cli.base import RunName, app, check_page, read_params, read_plan
from crossmodal.core.errors import UserError

features_app = typer.Typer(
    no_args_is_help=True, help="List the features in `data/`, or remove those that no data set needs."
)
app.add_typer(features_app, name="features", rich_help_panel="Tools")


@app.command(rich_help_panel="Tools")
def download(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Name of the download; by default all names are listed.")
    ] = "",
    to: Annotated[Path, typer.Option(help="Folder of raw files, as params.yaml names it.")] = Path("raw"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept the licence that is shown.")] = False,
) -> None:
    """Download raw files from their publishers; a broken download resumes, and files are checked and unpacked."""
    from crossmodal import downloads

    if not name:
        for key, entry in downloads.origins().items():
            typer.echo(f"{key}  {entry.title} ({'by hand' if entry.by_hand else entry.about})")
        typer.echo("torchvision/NETWORK  weights of a network of torchvision, such as torchvision/resnet152")
        return
    origin = downloads.named(name)
    typer.echo(f"{origin.title}, {origin.about}\nfrom {origin.home}\nlicence: {origin.licence}")
    if not yes and not typer.confirm("Do you accept the licence and want to fetch the files?"):
        raise typer.Exit(1)
    for line in downloads.fetch(origin, to):
        typer.echo(line)


@app.command(rich_help_panel="Tools")
def backbone(
    target: Annotated[Path, typer.Argument(help="Weights file to write (safetensors), or folder of the towers.")],
    threads: Annotated[int, typer.Option(help="Number of torch threads.")] = 2,
    of: Annotated[
        Literal["world", "scenes", "towers"],
        typer.Option(help="Drawn world of the network; towers: a pair for images and captions of the first."),
    ] = "world",
) -> None:
    """Train the small network of a drawn world again (about 15 minutes on two cores), or its pair of towers."""
    from crossmodal.features.networks import scenes_backbone, world_backbone, world_towers

    step = {"world": world_backbone, "scenes": scenes_backbone, "towers": world_towers}[of]
    step.train(step.Settings(), target, threads=threads)


@app.command("list", rich_help_panel="Tools")
def list_(
    what: Annotated[str, typer.Argument(help="runs, models, datasets, extractors, forms, tasks or figures")] = "runs",
    done: Annotated[
        bool, typer.Option("--done", help="The runs that are there: score, time of training, size on disk.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list in place of a table.")] = False,
) -> None:
    """List the runs that params.yaml selects, or the models, data sets, extractors, forms, tasks or figures known.

    `crossmodal list runs --done`
    """
    from crossmodal.cli import listing

    if done and what != "runs":
        raise UserError(f"--done: is of runs, not of {what}; expected `crossmodal list runs --done`")
    if done:
        listing.show_finished(read_plan(), as_json=as_json)
    elif what == "runs":
        listing.show_planned(read_plan(), as_json=as_json)
    elif what in listing.KINDS:
        listing.show_kind(listing.KINDS[what], as_json=as_json)
    else:
        raise UserError(f"list {what!r}: expected runs, models, datasets, extractors, forms, tasks or figures")


@features_app.command("ls")
def features_ls(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, with sizes in bytes.")] = False,
) -> None:
    """List all features with the data sets that have them, sizes and where they come from."""
    import json

    from crossmodal.features.engine import catalog

    entries = catalog.entries(Path(read_plan().params.paths.data))
    if as_json:
        typer.echo(json.dumps([entry.describe() for entry in entries], indent=2))
    else:
        catalog.show(entries)


@features_app.command("prune")
def features_prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove features from the store that no data set uses any more."""
    from crossmodal.core.display import readable_bytes
    from crossmodal.features.engine import catalog

    entries = catalog.unused(catalog.entries(Path(read_plan().params.paths.data)))
    if not entries:
        typer.echo("nothing to remove: a data set uses each entry of the store")
        return
    catalog.show(entries)
    if not yes and not typer.confirm(f"remove these {len(entries)}?"):
        raise typer.Exit(1)
    freed = sum(catalog.remove(entry) for entry in entries)
    typer.echo(f"{readable_bytes(freed)} freed")


@app.command(rich_help_panel="Tools")
def search(
    run: RunName,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="A sentence to search for.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search for an image file.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Search for a sound file.")] = None,
    video: Annotated[Path | None, typer.Option(help="Search for a video file.")] = None,
    mesh: Annotated[Path | None, typer.Option(help="Search for a mesh file.")] = None,
    item: Annotated[str | None, typer.Option(help="Search for an item of the data set, by its id.")] = None,
    to: Annotated[str | None, typer.Option(help="Modality of the answers, where the run has more than two.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of answers.")] = 10,
    partition: Annotated[str, typer.Option(help="Items that are searched: train, val, test or all.")] = "test",
    folder: Annotated[
        Path | None, typer.Option(help="Search the files of this folder instead; it is indexed at the first search.")
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Search the folder by a graph, which may miss some files (usearch).")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the answers as an HTML page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Search the items of a trained run's data set by a sentence or a file of yours.

    `crossmodal search scenes/full/vsepp/seed0 "a red ball left of a cup"`
    """
    from crossmodal import library
    from crossmodal.inference import search as step
    from crossmodal.reporting.page import search_results

    query = step.query_of(text, item, image=image, audio=audio, video=video, mesh=mesh)
    if html is not None:
        check_page(html, [str(file) for file in (image, audio, video, mesh) if file])
    opened = library.opened(read_params(), run)
    if html is not None and (folder is None or item is not None):  # else no file of the data set is shown
        step.check_root(opened.data)
    result = step.search(
        opened, query, to, k=k, partition=partition, exported=True, folder=folder, approximate=approximate
    )
    search_results.show(result, as_json=as_json)
    if html is not None:
        search_results.write(result, html)


@app.command(rich_help_panel="Tools")
def describe(
    run: RunName,
    pictures: Annotated[list[str] | None, typer.Argument(metavar="[PICTURE]...", help="Files of pictures.")] = None,
    item: Annotated[list[str] | None, typer.Option(help="An image of the data set, by its id; repeatable.")] = None,
    beam: Annotated[
        int | None, typer.Option(help="Unfinished captions that are kept per picture; by default as in the run.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page, with the attention to the regions drawn for each word.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, attention included.")] = False,
) -> None:
    """Describe pictures of yours with a trained captioner.

    `crossmodal describe scenes/full/nic/seed0 photograph.jpg`
    """
    from crossmodal import library
    from crossmodal.inference import description as step
    from crossmodal.inference.search import check_root
    from crossmodal.reporting.page import descriptions

    opened = library.opened(read_params(), run)
    if html is not None:
        check_page(html, pictures or [])
        if item:
            check_root(opened.data)
    result = step.describe(opened, pictures or [], item or [], beam)
    descriptions.show(result, as_json=as_json)
    if html is not None:
        descriptions.write(result, html)


@app.command(rich_help_panel="Tools")
def export(
    run: RunName,
    folder: Annotated[Path, typer.Argument(help="Folder to write the embeddings into.")],
    partition: Annotated[str, typer.Option(help="Items that are written: train, val, test or all.")] = "test",
    kind: Annotated[
        Literal["parquet", "npy", "hf", "webdataset"],
        typer.Option(
            "--as", help="Parquet files, .npy arrays and lists of ids, Hugging Face datasets, or WebDataset shards."
        ),
    ] = "parquet",
    npy: Annotated[bool, typer.Option("--npy", help="The same as --as npy.")] = False,
    to: Annotated[
        str | None, typer.Option(help="Modality with which the others are compared, where the run has more than two.")
    ] = None,
    clip_benchmark: Annotated[
        Path | None, typer.Option(help="Also write the run's recalls as a JSON file in CLIP_benchmark's form.")
    ] = None,
    mteb: Annotated[
        Path | None, typer.Option(help="Also write the run's metrics into a folder as MTEB writes its tasks' results.")
    ] = None,
) -> None:
    """Write the embeddings of a trained run's items, with their ids, for use elsewhere.

    `crossmodal export scenes/full/vsepp/seed0 embeddings/`
    """
    from crossmodal import library
    from crossmodal.inference import export as step

    opened = library.opened(read_params(), run)
    for path in step.export(opened, folder, partition=partition, kind="npy" if npy else kind, to=to):
        typer.echo(path)
    if clip_benchmark is not None:
        step.clip_benchmark(opened, clip_benchmark)
        typer.echo(clip_benchmark)
    if mteb is not None:
        for path in step.mteb(opened, mteb):
            typer.echo(path)


@app.command(rich_help_panel="Tools")
def schema() -> None:
    """Print the JSON schema of params.yaml, made from the classes that check it."""
    import json

    from crossmodal.experiments import Params

    typer.echo(json.dumps(Params.model_json_schema(), indent=2))
