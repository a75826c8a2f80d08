"""Small trees in the official layout of every dataset, written for tests."""

import csv
import functools
import json
import warnings
from fractions import Fraction

import av
import h5py
import imagecodecs
import nibabel
import numpy as np
import pydicom
import tifffile
import yaml
from av.video.reformatter import ColorRange, Colorspace
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from PIL import Image
from pydicom.data import get_testdata_file
from roifile import ROI_TYPE, ImagejRoi, roiwrite
from scipy.io import savemat

COUNT = 60


def pixels(index, height=20, width=24):
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


def objects(index, height=20, width=24):
    """Two numbered squares."""
    numbers = np.zeros((height, width), np.int32)
    numbers[1:5, 1:5], numbers[8:12, 6 + index % 4 : 14] = 3, 7
    return numbers


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def folders(root, *, images="images", masks="masks", image_ending=".png", name=lambda index: str(index * 10)):
    """Images and masks of one name in two folders."""
    for index in range(1, COUNT + 1):
        save(root / images / f"{name(index)}{image_ending}", pixels(index))
        save(root / masks / f"{name(index)}.png", (pixels(index)[:, :, 0] > 200).astype(np.uint8) * 255)


def polyp_benchmark(root):
    folders(root / "TrainDataset", images="image", masks="mask")
    for name in ("Kvasir", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "CVC-300"):
        folders(root / "TestDataset" / name)


def aligned(root):
    for index in range(12):
        save(root / ("train", "val", "test")[index % 3] / f"{index // 3}.jpg", pixels(index))


PATCH = "{slide}.ndpi_ROI__mpp0.44_reg00{index}_crop_sk00002_({index},34877,15855,15855).png"


def unitopatho(root, *, scale=800, tables=("yaml", "csv")):
    """Six slides, some with a name of spaces; every split has patches of two."""
    slides = {
        "TA.LG/TA.LG CASO 56 - 2019-03-04 10.00.26": "training",
        "HP/12-B1-HP": "training",
        "TVA.HG/TVA.HG CASO 13": "validation",
        "NORM/3-B1-NORM": "validation",
        "TA.HG/TA.HG CASO 4 A1": "test",
        "TVA.LG/77-B2-TVALG": "test",
    }
    places = []
    for slide, part in slides.items():
        label, _, name = slide.partition("/")
        for index in range(2):
            places.append((label, PATCH.format(slide=name, index=index), part))
            save(root / str(scale) / label / places[-1][1], pixels(len(places)))
    if "yaml" in tables:
        description = {
            "classes": sorted({label for label, _, _ in places}),
            "description": "a tree of the same layout",
            "images": [{"label": label, "location": f"{label}/{name}"} for label, name, _ in places],
            "name": "deephealth-uc2-800",
            "split": {
                part: [index for index, place in enumerate(places) if place[2] == part]
                for part in ("training", "validation", "test")
            },
        }
        (root / f"unitopath-public-{scale}.yml").write_text(yaml.safe_dump(description))
    if "csv" in tables:
        for table in ("train", "test"):
            with (root / str(scale) / f"{table}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["image_id", "top_label", "top_label_name", "type", "grade", "wsi"])
                for label, name, part in places:
                    if (part == "test") == (table == "test"):
                        writer.writerow([name, 0, label, "ta", -1, name.partition(".ndpi")[0]])
    return places


def unitopatho_mask(root):
    """Masks in the root, and the images beside it, where the dataset looks for them."""
    for index, (label, name, _) in enumerate(unitopatho(root.parent / "unitopatho")):
        save(root / "800" / label / name, (pixels(index)[:, :, 0] > 128).astype(np.uint8) * 255)


def pannuke(root, *, folds=(1, 2, 3), dtype=np.float64, count=5):
    """Objects of the first class and of the last one, which begin to count anew in each channel."""
    for fold in folds:
        images, masks = (root / f"Fold {fold}" / kind / f"fold{fold}" for kind in ("images", "masks"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        numbers = np.zeros((count, 32, 32, 6), dtype)
        numbers[:, 2:6, 2:6, 0], numbers[:, 2:6, 8:12, 0], numbers[:, 20:24, 2:6, 4] = 5, 9, 5
        numbers[..., 5] = (numbers[..., :5] == 0).all(-1)
        np.save(images / "images.npy", np.stack([pixels(10 * fold + i, 32, 32) for i in range(count)]).astype(dtype))
        np.save(
            images / "types.npy", np.array(["Colon", "Adrenal_gland", "HeadNeck", "Bile-duct", "Colon"] * count)[:count]
        )
        np.save(masks / "masks.npy", numbers)


def consep(root):
    for part, count in (("Train", 10), ("Test", 4)):
        for index in range(1, count + 1):
            name = f"{part.lower()}_{index}"
            numbers = objects(index)
            types = np.select([numbers == 3, numbers == 7], [4, 1 + index % 7]).astype(float)
            save(root / "CoNSeP" / part / "Images" / f"{name}.png", pixels(index))
            save(root / "CoNSeP" / part / "Overlay" / f"{name}.png", pixels(index))
            labels = root / "CoNSeP" / part / "Labels"
            labels.mkdir(exist_ok=True)
            savemat(labels / f"{name}.mat", {"inst_map": numbers.astype(float), "type_map": types})


def glas(root):
    folder = root / "Warwick QU Dataset (Released 2016_07_08)"
    for part, count in (("train", 10), ("testA", 4), ("testB", 2)):
        for index in range(1, count + 1):
            save(folder / f"{part}_{index}.bmp", pixels(index))
            save(folder / f"{part}_{index}_anno.bmp", objects(index).astype(np.uint8))


def annotation(polygons):
    """An XML file of Aperio ImageScope with one region per polygon of (x, y)."""
    regions = "".join(
        f'<Region Id="{index}"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0" />' for x, y in polygon)
        + "</Vertices></Region>"
        for index, polygon in enumerate(polygons, 1)
    )
    return f'<Annotations><Annotation Id="1"><Regions>{regions}</Regions></Annotation></Annotations>'


def monuseg(root):
    training, tests = root / "MoNuSeg 2018 Training Data", root / "MoNuSegTestData"
    (training / "Annotations").mkdir(parents=True)
    for index in range(14):
        patient, images, labels = (
            (90, tests, tests) if index > 9 else (10, training / "Tissue Images", training / "Annotations")
        )
        name = f"TCGA-{patient + index % 6}-5592-01Z-00-DX{index}"
        save(images / f"{name}.tif", pixels(index))
        (labels / f"{name}.xml").write_text(annotation([[(2.1, 2.2), (9.8, 2.0), (10.1, 8.9), (2.0, 9.0)]]))


def tissue(root):
    folders(
        root,
        images="tissue_images",
        masks="mask binary",
        image_ending=".tif",
        name=lambda index: f"Human_Organ{index // 3}_{index % 3 + 1:02d}",
    )


def fibres(index, height=20, width=24):
    """Greys of a mask in which an axon lies in its myelin."""
    greys = np.zeros((height, width), np.uint8)
    greys[2:12, 3 : 15 + index % 4], greys[5:9, 6:10] = 127, 255
    return greys


def axon(root, *, place="micr", count=9):
    """Subjects of two images for each domain; the first subject's say their pixel size together."""
    for index in range(2 * count):
        subject = f"sub-rat{index // 2 + 1}"
        for kind in ("SEM", "TEM"):
            stem = f"{subject}_sample-data{index}_{kind}"
            save(root / subject / place / f"{stem}.png", pixels(index)[:, :, 0])
            save(
                root / "derivatives" / "labels" / subject / place / f"{stem}_seg-axonmyelin-manual.png",
                fibres(index),
            )
            sidecar = root / subject / place / f"{stem if index > 1 else f'{subject}_{kind}'}.json"
            sidecar.write_text(json.dumps({"PixelSize": [0.1, 0.2], "PixelSizeUnits": "um"}))


def hdf5(root):
    """A file for each split, with labelled images of one domain."""
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        with h5py.File(root / f"dataset_{part}.hdf5", "w") as file:
            for index in range(count):
                file[f"sem/images/{index}"] = pixels(index)[:, :, 0]
                file[f"sem/labels/{index}"] = (pixels(index)[:, :, 0] > 128).astype(np.uint8)


def em(root):
    """Two folders of labels, one of which counts its sections in its own way."""
    for index in range(10):
        save(root / "raw" / f"{index:02d}.tif", pixels(index)[:, :, 0])
        save(root / "membranes" / f"{index:02d}.png", (pixels(index)[:, :, 0] > 128).astype(np.uint8) * 255)
        numbers = np.array([0, 32, 64, 96, 128, 159, 191, 223, 255], np.uint8)
        save(root / "labels" / f"labels{index:08d}.png", numbers[pixels(index)[:, :, 0] % 9])


def nnunet(root):
    """Colour cases, eight for training and four for tests, with what is unknown in one corner."""
    for part, count in (("Tr", 8), ("Ts", 4)):
        for index in range(count):
            labels = (pixels(index)[:, :, 0] > 128).astype(np.uint8) * (1 + index % 2)
            labels[:2, :2] = 3
            save(root / f"images{part}" / f"{part.lower()}_{index:03d}_0000.png", pixels(index))
            save(root / f"labels{part}" / f"{part.lower()}_{index:03d}.png", labels)
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "myelin": 1, "axon": 2, "ignore": 3},
        "numTraining": 8,
        "file_ending": ".png",
    }
    (root / "dataset.json").write_text(json.dumps(description))


def square(left, top, side):
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]


def labelme(root):
    """A polygon, a rectangle and what is unknown in each image."""
    for index in range(20):
        save(root / f"{index}.png", pixels(index))
        shapes = [
            {"label": "nucleus", "points": square(2, 3, 5 + index % 3), "shape_type": "polygon", "group_id": None},
            {"label": "gland", "points": [[12, 9], [20, 15]], "shape_type": "rectangle", "group_id": None},
            {"label": "__ignore__", "points": square(0, 16, 4), "shape_type": "polygon", "group_id": None},
        ]
        content = {"shapes": shapes, "imagePath": f"{index}.png", "imageHeight": 20, "imageWidth": 24}
        (root / f"{index}.json").write_text(json.dumps(content))


def geojson(root):
    """A square with a hole, and two squares that are one object, in each image."""
    closed = [[*ring, ring[0]] for ring in (square(2, 3, 8), square(4, 5, 3), square(12, 1, 4), square(18, 9, 5))]
    for index in range(20):
        save(root / f"{index}.png", pixels(index))
        features = [
            {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}
            for name, geometry in (
                ("Tumor", {"type": "Polygon", "coordinates": closed[:2]}),
                ("Stroma", {"type": "MultiPolygon", "coordinates": [closed[2:3], closed[3:]]}),
            )
        ]
        content = {"type": "FeatureCollection", "features": features}
        (root / f"{index}.geojson").write_text(json.dumps(content))


def imagej(root):
    """A polygon, a rectangle and an oval of what is unknown in each image."""
    for index in range(20):
        save(root / f"{index}.png", pixels(index))
        polygon = ImagejRoi.frompoints(square(2, 3, 5 + index % 3), name="nucleus #1")
        box = ImagejRoi(roitype=ROI_TYPE.RECT, left=12, top=9, right=20, bottom=15, name="gland")
        oval = ImagejRoi(roitype=ROI_TYPE.OVAL, left=0, top=16, right=4, bottom=20, name="__ignore__")
        roiwrite(root / f"{index}.zip", [polygon, box, oval])


def coco(root):
    """A polygon, what runs say, and a crowd in each image."""
    images, annotations = [], []
    for index in range(20):
        save(root / "images" / f"{index}.png", pixels(index))
        images.append({"id": index + 5, "file_name": f"{index}.png", "height": 20, "width": 24})
        runs = {"size": [20, 24], "counts": [20 * 12 + 5, 6, 14, 6, 20 * 24 - 20 * 12 - 31]}
        for category, segmentation, crowd in (
            (3, [np.ravel(square(2, 3, 5 + index % 3)).tolist()], 0),
            (1, runs, 0),
            (1, [np.ravel(square(0, 16, 4)).tolist()], 1),
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 5,
                    "category_id": category,
                    "segmentation": segmentation,
                    "iscrowd": crowd,
                }
            )
    categories = [{"id": 3, "name": "nucleus"}, {"id": 1, "name": "gland"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(content))


def cvat(root):
    """A polygon, a box that is turned by a quarter, and a mask in each image."""
    images = []
    for index in range(20):
        save(root / "images" / f"{index}.png", pixels(index))
        points = ";".join(f"{x},{y}" for x, y in square(2, 3, 5 + index % 3))
        images.append(
            f'<image id="{index}" name="{index}.png" width="24" height="20">'
            f'<polygon label="nucleus" source="manual" points="{points}" z_order="0"/>'
            '<box label="gland" xtl="13" ytl="8" xbr="19" ybr="10" rotation="90.00" z_order="0"/>'
            '<mask label="gland" rle="1, 2, 1, 4" left="20" top="1" width="4" height="2" z_order="0"/></image>'
        )
    labels = "".join(f"<label><name>{name}</name><color>#fff</color></label>" for name in ("nucleus", "gland"))
    (root / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta><task><labels>{labels}</labels></task></meta>{''.join(images)}</annotations>"
    )


def scene(index, height=48, width=64):
    """A texture that moves, and is another one in each video."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(columns / (3 + index % 3) + index), np.cos(rows / 4 - index / 2), np.sin((rows + columns) / 5)]
    return np.stack([(wave * 90 + 128).astype(np.uint8) for wave in waves], -1)


def write_video(path, frames, *, rate=10, codec="libx264", pixels="yuv420p", times=None, full=False, turn=0, **options):
    """Pictures ``(H, W, 3)`` as a video that says how its colours are meant.

    Args:
        times: of the frames in milliseconds; by default even ones.
        full: whether black is 0, not 16.
        turn: degrees that players turn it by, against the clock.
        options: of the codec.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={name: str(value) for name, value in options.items()})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        if turn:
            stream.set_display_rotation(turn)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame).reformat(
                format=pixels,
                dst_colorspace=Colorspace.ITU601,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            )
            picture.pts = number if times is None else times[number]
            picture.time_base = Fraction(1, rate if times is None else 1000)
            file.mux(stream.encode(picture))
        file.mux(stream.encode())


def video(root):
    """Four videos of two seconds."""
    for index in range(4):
        write_video(root / f"scope{index}.mp4", [scene(20 * index + number) for number in range(20)])


LYING = np.array([[0, 0, 3.0, -8], [-0.5, 0, 0, 9], [0, -0.25, 0, 7], [0, 0, 0, 1]])
"""The affine of a volume whose axes go to the back, to the feet and to the right, in steps of 0.5, 0.25 and 3 mm."""


def write_volume(path, voxels, affine=LYING, kind=nibabel.Nifti1Image):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(kind(voxels, affine), path)


def nifti(root):
    """Six volumes whose slices are as large as :func:`pixels`."""
    for index in range(6):
        greys = np.stack([pixels(10 * index + number)[:, :, 0] for number in range(14)], -1)
        write_volume(root / "images" / f"case{index}.nii.gz", greys.astype(np.int16) - 100)
        write_volume(root / "labels" / f"case{index}.nii.gz", (greys > 128).astype(np.uint8))


CT_SLICE = {
    "SOPClassUID": pydicom.uid.CTImageStorage,
    "Modality": "CT",
    "FrameOfReferenceUID": "1.2.7",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [0.5, 0.25],
    "SliceThickness": 5,
}
"""What DICOM-SEG needs to know of an image, but its place."""


def write_dicom(path, stored, *, patient="DOE^JANE", study="1.2.3", series="1.2.3.4", **tags):
    """Stored values ``(H, W)``, ``(H, W, 3)`` or, with NumberOfFrames, more, as an uncompressed file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, pydicom.uid.generate_uid()
    file.PatientName, file.PatientID = patient, patient
    file.StudyInstanceUID, file.SeriesInstanceUID = study, series
    coloured = stored.shape[-1] == 3
    file.Rows, file.Columns = stored.shape[-3:-1] if coloured else stored.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if coloured else (1, "MONOCHROME2")
    if coloured:
        file.PlanarConfiguration = 0
    file.BitsAllocated = file.BitsStored = 8 * stored.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(stored.dtype.kind == "i")
    file.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    for tag, value in tags.items():
        setattr(file, tag, value)
    file.save_as(path, enforce_file_format=True)


def write_slices_together(path):
    """Four slices of a CT in one file, which calls itself 1.2.10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    slices = []
    for index in range(4):
        tags = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        tags.SOPInstanceUID, tags.ImagePositionPatient = f"1.2.3.{index}", [0, 0, 5 * index]
        slices.append(tags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LegacyConvertedEnhancedCTImage(slices, "1.2.9", 1, "1.2.10", 1).save_as(path)


def dicom(root):
    """Six patients of two images, in folders as archives write them."""
    for index in range(12):
        place, patient = f"{index // 2:03}/IM{index % 2}", f"DOE^JANE{index // 2}"
        greys = pixels(index)[:, :, 0]
        window = {"WindowCenter": 100, "WindowWidth": 150, "PixelSpacing": [0.5, 0.25]}
        write_dicom(
            root / "images" / place, greys.astype(np.int16), patient=patient, series=f"1.2.{index // 2}", **window
        )
        save(root / "masks" / f"{place}.png", (greys > 128).astype(np.uint8) * 255)


SECRET = 201, 33, 150
"""The colour of a slide's label and of the picture of its whole glass, which nothing may read."""


def write_slide(path, image, *, mpp=0.5, steps=(1, 4)):
    """An Aperio-like pyramid of JPEG tiles, with thumbnail, label and macro picture; ``mpp`` None says no size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = f"Aperio Image Library\n{image.shape[1]}x{image.shape[0]} JPEG/RGB Q=90|AppMag = 20|User = DOE^JANE"
    said += "" if mpp is None else f"|MPP = {mpp}"
    kept = {"photometric": "rgb", "metadata": None, "description": said}
    jpeg = {**kept, "compression": "jpeg", "compressionargs": {"level": 90}}
    with tifffile.TiffWriter(path) as file:
        file.write(image, tile=(64, 64), **jpeg)
        file.write(image[::8, ::8], rowsperstrip=16, **jpeg)
        for step in steps[1:]:
            file.write(shrunk(image, step), tile=(64, 64), **jpeg)
        secret = np.full((48, 64, 3), SECRET, np.uint8)
        file.write(secret, subfiletype=1, **{**kept, "description": f"{said}\nlabel 64x48"}, compression="lzw")
        file.write(secret, subfiletype=9, **{**jpeg, "description": f"{said}\nmacro 64x48"}, rowsperstrip=16)


def write_pyramid(path, image, *, mpp=0.5, levels=3):
    """A generic tiled pyramid, its smaller levels in SubIFDs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        sides = (10_000 / mpp,) * 2
        file.write(image, subifds=levels - 1, resolution=sides, resolutionunit="CENTIMETER", **kept)
        for level in range(1, levels):
            file.write(shrunk(image, 2**level), subfiletype=1, **kept)


def shrunk(image, step):
    """Area means; sides that are no multiples of the step lose the rest."""
    height, width = (side // step for side in image.shape[:2])
    blocks = image[: height * step, : width * step].reshape(height, step, width, step, -1)
    return (blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def tissue_slide(height=256, width=320, seed=0):
    """Glass with a spot of pink tissue in the middle, and darker nuclei in it; and where the nuclei are."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - height / 2) / (0.35 * height)) ** 2 + ((columns - width / 2) / (0.35 * width)) ** 2 < 1
    nuclei = inside & ((rows // 16 + columns // 16 + seed) % 3 == 0)
    image = np.full((height, width, 3), 240, np.int16)
    image[inside], image[nuclei] = (225, 160, 195), (110, 60, 140)
    image += random.integers(-3, 4, (height, width, 1), dtype=np.int16)
    return image.clip(0, 255).astype(np.uint8), nuclei


def slides(root):
    """Six slides with annotations of two classes, one of them in an area."""
    closed = [[*ring, ring[0]] for ring in (square(100, 90, 40), square(150, 120, 30), square(64, 64, 180))]
    for index in range(6):
        write_slide(root / "images" / f"case{index}.svs", tissue_slide(seed=index)[0])
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"classification": {"name": name}},
            }
            for name, ring in zip(("Tumor", "Stroma", "Region*"), closed, strict=True)
        ]
        content = {"type": "FeatureCollection", "features": features[: 3 - index % 2]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"case{index}.geojson").write_text(json.dumps(content))


BUILDERS = {
    "cvc-clinicdb": functools.partial(folders, images="Original", masks="Ground Truth"),
    "polyp-benchmark": polyp_benchmark,
    "aligned": aligned,
    "unitopatho": unitopatho,
    "unitopatho-mask": unitopatho_mask,
    "pannuke": pannuke,
    "consep": consep,
    "glas": glas,
    "monuseg": monuseg,
    "tissue": tissue,
    "axon": axon,
    "coco": coco,
    "cvat": cvat,
    "dicom": dicom,
    "em": em,
    "geojson": geojson,
    "hdf5": hdf5,
    "imagej": imagej,
    "labelme": labelme,
    "nifti": nifti,
    "nnunet": nnunet,
    "slides": slides,
    "video": video,
}


def write(name, root):
    """The tree of a dataset by its name, in a folder that need not exist."""
    root.mkdir(parents=True, exist_ok=True)
    BUILDERS.get(name, folders)(root)


def write_huge_tiles(path, code):
    """A TIFF file of 256x320 pixels whose tiles, of JPEG or JPEG 2000, claim to have 16,384x16,384 each."""
    tile = bytearray(code(np.full((64, 64, 3), 200, np.uint8)))
    for size in (64).to_bytes(2, "big") * 2, (64).to_bytes(4, "big") * 2:
        tile = tile.replace(size, (2**14).to_bytes(len(size) // 2, "big") * 2)
    compression = "jpeg" if code is imagecodecs.jpeg8_encode else "jpeg2000"
    kept = {"tile": (64, 64), "compression": compression, "photometric": "rgb"}
    tifffile.imwrite(path, iter([bytes(tile)] * 20), shape=(256, 320, 3), dtype=np.uint8, **kept)
